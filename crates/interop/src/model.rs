//! What more cores would give: a model of the pipeline, fed with measured costs.
//!
//! Two machines of n cores each, trains of packets between them. Every stage of a train needs a core of its machine, and the thread whose
//! stage it is; a machine gives its cores to whoever has waited longest. As many trains are under way as TCP's window allows. It
//! is a simulation in steps of events, without chance: the same costs give the same figures.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::report;

/// Bytes of payload in a train.
const TRAIN: f64 = 48.0 * 1240.0;
/// Trains that TCP has under way on one flow.
const WINDOW: usize = 64;
/// Trains of one run.
#[cfg(not(test))]
const TRAINS: usize = 20_000;
#[cfg(test)]
const TRAINS: usize = 4000;
const MOST_CORES: usize = 16;
/// Queues of the device, at most.
const MOST_QUEUES: usize = 8;
/// Waking a thread that sleeps, in seconds.
const WAKE: f64 = 5e-6;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The costs of the stages
    #[arg(long, default_value = "benches/costs.json")]
    costs: PathBuf,
    /// Write the rows to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// CPU seconds for each gigabyte of payload.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Costs {
    /// The sender's own kernel: its TCP, up to the device.
    sender: f64,
    read: f64,
    /// Splitting, checksums, laying out.
    split: f64,
    seal: f64,
    send: f64,
    receive: f64,
    open: f64,
    /// Filter and coalescing.
    deliver: f64,
    /// Into the device, and the receiver's TCP as far as it runs in that call.
    write: f64,
    /// The receiver's own part.
    receiver: f64,
}

/// How the work is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Shape {
    /// One thread for each direction, which does everything.
    TwoThreads,
    /// One thread for each direction, and others that seal and open for it.
    Tickets,
    /// As many queues as half the cores.
    Queues,
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    cores: usize,
    flows: usize,
    shape: Shape,
    gbit_per_s: f64,
}

/// Prints the table.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let costs = read(&options.costs)?;
    let mut rows = Vec::new();
    for cores in 1..=MOST_CORES {
        for (flows, shape) in COLUMNS {
            let gbit_per_s = gbit(&costs, cores, flows, shape);
            rows.push(Row {
                cores,
                flows,
                shape,
                gbit_per_s,
            });
        }
    }
    let lines: Vec<Vec<String>> = rows
        .chunks(COLUMNS.len())
        .map(|row| {
            let mut cells = vec![row[0].cores.to_string()];
            cells.extend(row.iter().map(|one| format!("{:.1}", one.gbit_per_s)));
            cells
        })
        .collect();
    let head = [
        "cores at each end",
        "1 flow, two threads",
        "1 flow, tickets",
        "16 flows, two threads",
        "16 flows, queues",
    ];
    println!("Gbit/s of payload\n\n{}", report::markdown(&head, &lines));
    if let Some(path) = &options.json {
        report::write_json(path, &rows)?;
    }
    Ok(true)
}

const COLUMNS: [(usize, Shape); 4] = [
    (1, Shape::TwoThreads),
    (1, Shape::Tickets),
    (16, Shape::TwoThreads),
    (16, Shape::Queues),
];

fn read(path: &Path) -> Result<Costs> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let costs: Costs =
        serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))?;
    let all = serde_json::to_value(costs)?;
    let is_good = |cost: &serde_json::Value| cost.as_f64().is_some_and(|cost| cost > 0.0);
    let parts = all.as_object().context("costs have names")?;
    ensure!(
        parts.values().all(is_good),
        "every cost must be more than nothing"
    );
    Ok(costs)
}

/// One thing that is done with a train without a break.
#[derive(Debug, Clone, Copy)]
struct Stage {
    /// Which machine's cores.
    machine: usize,
    /// Which thread must be free; `None` for any of those that seal and open.
    thread: Option<usize>,
    /// Whether trains pass in the order in which they began.
    in_order: bool,
    seconds: f64,
}

/// Threads of a machine: the application of each flow, then the workers of each queue, then those who retire.
fn stages(costs: &Costs, shape: Shape, flow: usize, queue: usize) -> Vec<Stage> {
    let seconds = |parts: &[f64]| parts.iter().sum::<f64>() * TRAIN / 1e9;
    let stage = |machine, thread, in_order, parts: &[f64]| Stage {
        machine,
        thread,
        in_order,
        seconds: seconds(parts),
    };
    let (app, worker, retiring) = (flow, 1000 + queue, 2000 + queue);
    let mut all = vec![stage(0, Some(app), false, &[costs.sender])];
    match shape {
        Shape::TwoThreads | Shape::Queues => {
            let out = [costs.read, costs.split, costs.seal, costs.send];
            let back = [costs.receive, costs.open, costs.deliver, costs.write];
            all.push(stage(0, Some(worker), false, &out));
            all.push(stage(1, Some(worker), false, &back));
        }
        Shape::Tickets => {
            all.push(stage(0, Some(worker), false, &[costs.read, costs.split]));
            all.push(stage(0, None, false, &[costs.seal]));
            all.push(stage(0, Some(retiring), true, &[costs.send]));
            all.push(stage(1, Some(worker), false, &[costs.receive]));
            all.push(stage(1, None, false, &[costs.open]));
            all.push(stage(
                1,
                Some(retiring),
                true,
                &[costs.deliver, costs.write],
            ));
        }
    }
    for stage in all.iter_mut().filter(|stage| stage.thread.is_none()) {
        stage.seconds += WAKE;
    }
    all.push(stage(1, Some(app), false, &[costs.receiver]));
    all
}

struct Train {
    stages: Vec<Stage>,
    at: usize,
    flow: usize,
    ticket: usize,
}

/// What runs on the two machines.
struct Model {
    cores: [usize; 2],
    busy: BTreeMap<(usize, usize), ()>,
    /// Trains that wait for a core or a thread, longest first.
    waiting: [VecDeque<usize>; 2],
    trains: Vec<Train>,
    /// What ends when, in nanoseconds; the number makes each entry its own.
    ends: BTreeMap<(u64, usize), usize>,
    /// The next ticket of each flow's stage that keeps the order.
    next: BTreeMap<(usize, usize), usize>,
    now: u64,
}

impl Model {
    /// Whether a train's next stage can begin.
    fn can_begin(&self, train: usize) -> bool {
        let train = &self.trains[train];
        let stage = train.stages[train.at];
        let is_free = |thread| !self.busy.contains_key(&(stage.machine, thread));
        let in_turn = self.next.get(&(train.flow, train.at)).copied().unwrap_or(0);
        stage.thread.is_none_or(is_free) && (!stage.in_order || in_turn == train.ticket)
    }

    fn begin(&mut self) {
        for machine in 0..2 {
            while self.cores[machine] > 0 {
                let found = self.waiting[machine]
                    .iter()
                    .position(|train| self.can_begin(*train));
                let Some(train) = found.and_then(|at| self.waiting[machine].remove(at)) else {
                    break;
                };
                let stage = self.trains[train].stages[self.trains[train].at];
                self.cores[machine] -= 1;
                if let Some(thread) = stage.thread {
                    self.busy.insert((machine, thread), ());
                }
                let end = self.now + (stage.seconds * 1e9) as u64;
                self.ends.insert((end, train), train);
            }
        }
    }

    /// Ends the stage that ends next; says which train is through.
    fn step(&mut self) -> Option<usize> {
        let ((now, _), train) = self.ends.pop_first()?;
        self.now = now;
        let one = &mut self.trains[train];
        let stage = one.stages[one.at];
        self.cores[stage.machine] += 1;
        if let Some(thread) = stage.thread {
            self.busy.remove(&(stage.machine, thread));
        }
        if stage.in_order {
            *self.next.entry((one.flow, one.at)).or_default() += 1;
        }
        one.at += 1;
        match one.stages.get(one.at) {
            Some(next) => {
                self.waiting[next.machine].push_back(train);
                None
            }
            None => Some(train),
        }
    }
}

/// What gets through.
fn gbit(costs: &Costs, cores: usize, flows: usize, shape: Shape) -> f64 {
    let queues = match shape {
        Shape::Queues => (cores / 2).clamp(1, MOST_QUEUES),
        Shape::TwoThreads | Shape::Tickets => 1,
    };
    let mut model = Model {
        cores: [cores; 2],
        busy: BTreeMap::new(),
        waiting: [VecDeque::new(), VecDeque::new()],
        trains: Vec::new(),
        ends: BTreeMap::new(),
        next: BTreeMap::new(),
        now: 0,
    };
    let mut tickets = vec![0; flows];
    let mut start = |model: &mut Model, flow: usize| {
        let ticket = tickets[flow];
        tickets[flow] += 1;
        let stages = stages(costs, shape, flow, flow % queues);
        model.trains.push(Train {
            stages,
            at: 0,
            flow,
            ticket,
        });
        let train = model.trains.len() - 1;
        model.waiting[0].push_back(train);
    };
    for _ in 0..(WINDOW / flows).max(2) {
        for flow in 0..flows {
            start(&mut model, flow);
        }
    }
    let mut through = 0;
    while through < TRAINS {
        model.begin();
        match model.step() {
            Some(train) => {
                through += 1;
                let flow = model.trains[train].flow;
                start(&mut model, flow);
            }
            None if model.ends.is_empty() && model.waiting.iter().all(VecDeque::is_empty) => break,
            None => {}
        }
    }
    through as f64 * TRAIN * 8.0 / model.now as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        sender: 0.2,
        read: 0.1,
        split: 0.05,
        seal: 0.2,
        send: 0.25,
        receive: 0.2,
        open: 0.2,
        deliver: 0.05,
        write: 0.35,
        receiver: 0.1,
    };

    fn is_near(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 0.03
    }

    #[test]
    fn one_core_at_each_end_is_as_fast_as_the_busier_one() {
        // The receiving end: 0.9 s/GB.
        assert!(is_near(gbit(&COSTS, 1, 1, Shape::TwoThreads), 8.0 / 0.9));
    }

    #[test]
    fn no_thread_does_more_than_it_can() {
        // Receive to write is one thread's: 0.8 s/GB, however many cores there are.
        assert!(is_near(gbit(&COSTS, 16, 1, Shape::TwoThreads), 10.0));
        // With tickets, delivering and writing in order is what is left: 0.4 s/GB.
        let tickets = gbit(&COSTS, 16, 1, Shape::Tickets);
        assert!(tickets > 15.0 && tickets < 20.1, "{tickets}");
    }

    #[test]
    fn more_cores_are_never_slower() {
        for (flows, shape) in COLUMNS {
            let figures: Vec<f64> = (1..=8)
                .map(|cores| gbit(&COSTS, cores, flows, shape))
                .collect();
            for pair in figures.windows(2) {
                assert!(pair[1] > pair[0] * 0.99, "{shape:?}: {figures:?}");
            }
        }
    }
}
