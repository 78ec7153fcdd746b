//! What is printed at the end.

use std::time::Duration;

use crate::Args;
use crate::clock::{ms, thousands};
use crate::driver::{Counts, Driver};
use crate::fault::AnyError;
use crate::statistics::{self, Longest, Statistics, Wait};

/// Prints everything. True: nothing was lost, torn or wrong, and nobody waited too long.
pub(crate) fn print(driver: &Driver<'_>, args: &Args) -> Result<bool, AnyError> {
    let (counts, processes, all) = (&driver.counts, &driver.processes, driver.statistics()?);
    let seconds = Duration::from_nanos(counts.running.max(1)).as_secs_f64();
    let rate = |n: u64| n as f64 / seconds;
    println!(
        "kills            {}, {:.1} a second while workers ran; {} of them while stopped",
        thousands(processes.kills),
        rate(processes.kills),
        processes.killed_stopped
    );
    println!("stops            {}", thousands(processes.stops));
    println!(
        "operations       {}, {} a second; {:.0} % of the workers' time inside of calls",
        thousands(all.total()),
        thousands(all.total() * 1_000_000 / (counts.running / 1000).max(1)),
        100.0 * all.inside as f64 / all.alive.max(1) as f64
    );
    print_ops(&all);
    println!(
        "recoveries       {}: locks that the dead held, taken over by the next",
        thousands(counts.recoveries)
    );
    println!(
        "cut off          {} changes that had not happened, {} that had, {} batches in part",
        all.cut_off[0], all.cut_off[1], all.cut_off[2]
    );
    println!("gave up          {} changes on the lock of a stopped process", all.timeouts);
    for (name, kind) in [
        ("after kills", Wait::AfterKills),
        ("beside stops", Wait::BesideStops),
        ("but for cores", Wait::Running),
        ("killed in it", Wait::Unfinished),
        ("whole tables", Wait::Whole),
        ("no call", Wait::Outside),
    ] {
        print_wait(driver, &all, name, kind);
    }
    println!(
        "compared         {} times check and all keys, {} keys in all, both ways; largest {} MB; {} times new tables",
        counts.comparisons,
        thousands(counts.compared_keys),
        counts.largest / 1_000_000,
        counts.renewed
    );
    println!(
        "walks beside     {} of some shards, {} of whole tables",
        thousands(all.partial_walks),
        all.full_walks
    );
    let longest = Duration::from_nanos(all.longest[Wait::Running as usize].nanoseconds);
    let waited = longest > Duration::from_millis(args.max_wait);
    if waited {
        eprintln!("torture: an operation took longer than {} ms", args.max_wait);
    }
    summary(driver, &all, counts, rate(processes.kills));
    Ok(driver.verdicts().none() && !waited)
}

fn print_ops(all: &Statistics) {
    let mut line = String::from("                ");
    for (op, &count) in all.ops.iter().enumerate() {
        let word = format!(" {} {}", statistics::name(op), short(count));
        if line.len() + word.len() > 110 {
            println!("{line}");
            line = String::from("                ");
        }
        line.push_str(&word);
    }
    println!("{line}");
}

fn print_wait(driver: &Driver<'_>, all: &Statistics, name: &str, kind: Wait) {
    let Longest { nanoseconds, op, table, not_running, .. } = all.longest[kind as usize];
    if nanoseconds == 0 {
        return;
    }
    let op = statistics::name(usize::try_from(op).unwrap_or(usize::MAX));
    let of = match kind {
        Wait::Running => format!(
            "{op} in table {}; after kills, without the time that it was ready but had no core",
            driver.table_name(table)
        ),
        Wait::Unfinished => {
            format!("{op} in table {}, so long until its process was killed", driver.table_name(table))
        }
        Wait::Outside => String::from("between two operations: the machine's own pause"),
        _ => format!(
            "{op} in table {}, {} of it ready but without a core",
            driver.table_name(table),
            ms(not_running)
        ),
    };
    println!(
        "longest wait     {name}: {} ({of}); 99.99 % up to {:.3} ms, 99 % up to {:.3} ms",
        ms(nanoseconds),
        all.quantile(kind, 10_000).as_secs_f64() * 1e3,
        all.quantile(kind, 100).as_secs_f64() * 1e3
    );
}

fn summary(driver: &Driver<'_>, all: &Statistics, counts: &Counts, kills: f64) {
    let (processes, verdicts) = (&driver.processes, driver.verdicts());
    println!(
        "# total: {} processes killed, {kills:.0} a second, {} stopped; {} operations, {} recoveries, {} full \
         comparisons; longest wait of a survivor {} after kills ({} but for want of a core), {} beside stopped processes, {} outside of calls; \
         {} lost, {} torn, {} wrong, {} failed",
        thousands(processes.kills),
        thousands(processes.stops),
        thousands(all.total()),
        thousands(counts.recoveries),
        counts.comparisons,
        ms(all.longest[Wait::AfterKills as usize].nanoseconds),
        ms(all.longest[Wait::Running as usize].nanoseconds),
        ms(all.longest[Wait::BesideStops as usize].nanoseconds),
        ms(all.longest[Wait::Outside as usize].nanoseconds),
        verdicts.lost,
        verdicts.torn,
        verdicts.wrong,
        verdicts.failed
    );
}

fn short(n: u64) -> String {
    match n {
        0..10_000 => format!("{n}"),
        10_000..10_000_000 => format!("{}k", n / 1000),
        _ => format!("{}M", n / 1_000_000),
    }
}
