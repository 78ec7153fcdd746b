//! What shf's queues want to reach.

use super::args::{Place, Shape, System, Unit, Way, Workload};
use super::report::Report;
use crate::targets::Target;

const PROCESSES: Unit = Unit { system: System::Shf, place: Place::Processes };
const THREADS: Unit = Unit { system: System::Shf, place: Place::Threads };
const RTRB: Unit = Unit { system: System::Rtrb, place: Place::Threads };
const ICEORYX2: Unit = Unit { system: System::Iceoryx2, place: Place::Processes };
const BARE: Unit = Unit { system: System::Bare, place: Place::Processes };

pub(crate) fn targets(r: &Report) -> Vec<Target> {
    let shape = |workload, batch, way| Shape { workload, bytes: 0, batch, way };
    let cycle = |batch| r.rate(PROCESSES, shape(Workload::Cycle, batch, Way::Plain));
    let exchange = |batch| r.rate(PROCESSES, shape(Workload::Cycle, batch, Way::Exchange));
    let one_way = |unit, batch| r.rate(unit, shape(Workload::OneWay, batch, Way::Plain));
    let chunks = |batch| r.rate(RTRB, shape(Workload::OneWay, batch, Way::Chunks));
    let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let latency = |unit, workload| r.latency(unit, workload).map(|latency| latency.quantiles[0]);
    let to = |other, workload| ratio(latency(PROCESSES, workload), latency(other, workload));

    let target =
        |name, measured, floor, aim, unit, at_most| Target { name, measured, floor, aim, unit, at_most };
    let rate = |name, measured, floor, aim| target(name, measured, floor, aim, "M/s", false);
    let at_least = |name, measured, floor, aim| target(name, measured, floor, aim, "x", false);
    let at_most = |name, measured, floor, aim| target(name, measured, floor, aim, "x", true);
    vec![
        rate("cycle in two processes, each, 1,000 a call", cycle(1000), 500.0, 800.0),
        rate("cycle in two processes, each, 64 a call", cycle(64), 200.0, 350.0),
        rate("cycle in two processes, each, 16 a call", cycle(16), 20.0, 60.0),
        rate("cycle in two processes, each, one at a time", cycle(1), 10.0, 30.0),
        rate("the same, push and pull in one call", exchange(1), 10.0, 30.0),
        at_least(
            "one way in threads, 1,000 a call / rtrb chunks",
            ratio(one_way(THREADS, 1000), chunks(1000)),
            0.5,
            0.8,
        ),
        at_least(
            "one way in threads, 64 a call / rtrb chunks",
            ratio(one_way(THREADS, 64), chunks(64)),
            0.5,
            0.8,
        ),
        at_least("cycle in processes, 1,000 / rtrb chunks", ratio(cycle(1000), chunks(1000)), 0.5, 0.8),
        at_least("cycle in processes, 64 / rtrb chunks", ratio(cycle(64), chunks(64)), 0.5, 0.8),
        at_most("there and back, p50 / iceoryx2", to(ICEORYX2, Workload::PingPong), 0.5, 0.3),
        at_most("wake-up, p50 / bare futex", to(BARE, Workload::WakeUp), 1.3, 1.1),
    ]
}
