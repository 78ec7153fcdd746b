//! What is printed at the end.

use std::time::Duration;

use crate::clock::{ms, thousands};
use crate::driver::Driver;
use crate::fault::AnyError;
use crate::lives::{COUNT_NAMES, Count, OPERATIONS};

/// Prints everything. True: nothing was lost, twice, torn or wrong.
pub(crate) fn print(driver: &mut Driver<'_>) -> Result<bool, AnyError> {
    let counted = driver.counted()?;
    let of = |what: Count| thousands(counted[what as usize]);
    driver.totals.home.sort_unstable();
    let (processes, totals) = (&driver.processes, &driver.totals);
    let seconds = Duration::from_nanos(totals.running.max(1)).as_secs_f64();
    let kills = processes.kills as f64 / seconds;
    let operations: u64 = counted[..OPERATIONS].iter().sum();
    println!(
        "kills            {}, {kills:.1} a second while workers ran; {} of them while stopped",
        thousands(processes.kills),
        processes.killed_stopped
    );
    println!("stops            {}", thousands(processes.stops));
    println!("operations       {}, {:.0} a second", thousands(operations), operations as f64 / seconds);
    for line in COUNT_NAMES.iter().zip(counted).collect::<Vec<_>>().chunks(6) {
        let words: Vec<String> = line.iter().map(|(name, n)| format!("{name} {}", thousands(*n))).collect();
        println!("                 {}", words.join(", "));
    }
    println!(
        "items            {} pulled and judged, {} batches over 1,008; {} pulled without marks",
        of(Count::Items),
        of(Count::LargeBatches),
        of(Count::Bare)
    );
    println!(
        "came home        {} from the dead; locks taken over {}",
        thousands(totals.returned),
        thousands(totals.recoveries)
    );
    println!(
        "found            {} that a dead one held, {} whose push was cut off, {} behind later ones",
        of(Count::FoundHeld),
        of(Count::CutOff),
        of(Count::OutOfOrder)
    );
    println!(
        "waited           {} times in vain; gave up on a lock {} times",
        of(Count::Waited),
        of(Count::GaveUp)
    );
    println!(
        "counted          {} times all items, {} in all; {} times new sets, {} queues",
        totals.counts,
        thousands(totals.counted_items),
        totals.renewed,
        totals.queues
    );
    let middle = totals.home.get(totals.home.len() / 2).copied().unwrap_or(0);
    let longest = totals.home.last().copied().unwrap_or(0);
    println!(
        "home             {} measured; at most {} after the kill, {} after the death; half of them within {} of the kill",
        totals.home.len(),
        ms(longest),
        ms(totals.after_death),
        ms(middle)
    );
    let verdicts = driver.verdicts();
    println!(
        "# total: {} processes killed, {kills:.0} a second, {} stopped; {operations} operations, {} items judged, {} counted only, {} brought home \
         from the dead, longest {} after the kill, {} after the death, {} recoveries, {} full counts; {} lost, {} twice, {} torn, {} wrong, {} failed",
        thousands(processes.kills),
        thousands(processes.stops),
        of(Count::Items),
        of(Count::Bare),
        thousands(totals.returned),
        ms(longest),
        ms(totals.after_death),
        thousands(totals.recoveries),
        totals.counts,
        verdicts.lost,
        verdicts.twice,
        verdicts.torn,
        verdicts.wrong,
        verdicts.failed,
        operations = thousands(operations),
    );
    Ok(verdicts.none())
}
