//! Load of `pinwire-loadgen` on a server, its clients on the last processor, with the server's processor time over exactly
//! the time that counts.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pinwire_engine::allowed_cores;
use pinwire_loadgen::results::{Measure, Results};
use pinwire_loadgen::run::{Conductor, Seat, Second, Status, Watch, run};
use pinwire_loadgen::scenario::Scenario;

use crate::procfs::process_time;

/// What came out.
#[derive(Debug)]
pub struct Measured {
    /// All that the generator has to say.
    pub results: Results,
    /// Processor time of the server while the load counted.
    pub cpu: Duration,
    /// Deliveries, or handshakes, that came in that time, whenever they were sent: a slow server has a second's under way.
    pub received: u64,
}

impl Measured {
    /// Deliveries, or handshakes, a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.received as f64 / self.results.total.seconds
    }

    /// Microseconds of the server for each.
    #[must_use]
    pub fn us_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.received as f64
    }

    /// Deliveries by frame. Both count what came after the load, too; with more than the warm-up under way it is too low.
    #[must_use]
    pub fn per_frame(&self) -> f64 {
        self.results.total.received as f64 / self.results.total.frames_received as f64
    }

    /// A percentile of the latency in microseconds.
    #[must_use]
    pub fn latency_us(&self, percentile: f64) -> u64 {
        let latency = self.results.total.latency.get(&Measure::Latency);
        latency.map_or(0, |histogram| histogram.percentile(percentile) / 1000)
    }

    /// Share of its processor that the generator used.
    #[must_use]
    pub fn generator_busy(&self) -> f64 {
        self.results.generator.threads.iter().map(|thread| thread.busy).fold(0.0, f64::max)
    }

    /// That nothing was lost and everybody has the same document.
    ///
    /// # Errors
    /// Says what was found.
    pub fn ensure_whole(&self) -> Result<()> {
        let Results { correctness, connections, total, .. } = &self.results;
        if correctness.faults() > 0 {
            bail!("updates were lost, or the documents did not converge: {:?}", correctness);
        }
        ensure!(connections.failed.is_empty(), "clients were refused: {:?}", connections.failed);
        ensure!(connections.lost.is_empty(), "clients were disconnected: {:?}", connections.lost);
        ensure!(total.received > 0 && self.received > 0, "nothing was delivered");
        Ok(())
    }
}

/// Runs a scenario whose load counts for `time` against the server `pid`; both that and the warm-up are whole seconds.
///
/// # Errors
/// The run could not be done, or the server is gone.
pub fn measure(scenario: &Scenario, time: Duration, pid: u32) -> Result<Measured> {
    let read = measure_with(scenario, time, move || process_time(pid))?;
    let cpu = read.after.saturating_sub(read.before);
    Ok(Measured { results: read.results, cpu, received: read.received })
}

/// What came out, with what was read about the servers.
#[derive(Debug)]
pub struct Readings<T> {
    /// All that the generator has to say.
    pub results: Results,
    /// As in [`Measured`].
    pub received: u64,
    /// Read when the load began to count.
    pub before: T,
    /// Read when it ended.
    pub after: T,
}

/// The same, with anything that is to be read when the load begins to count, and when it ends.
///
/// # Errors
/// The run could not be done, or a reading fails.
pub fn measure_with<T: Send + 'static>(
    scenario: &Scenario,
    time: Duration,
    read: impl Fn() -> Result<T> + Send + 'static,
) -> Result<Readings<T>> {
    let mut scenario = scenario.clone();
    let core = *allowed_cores()?.last().context("no processor")?;
    scenario.generator.threads = 1;
    scenario.generator.cores = vec![core];
    let (keep, over) = channel();
    let meter = Meter {
        begin: Mutex::new(Some((Box::new(read), over))),
        warm_up: scenario.warm_up,
        time,
        base: Instant::now(),
        reading: Mutex::new(None),
    };
    let results = run(&scenario, Seat::ALONE, &meter, &Unseen)?;
    let Counted { first, before, after } = meter.finish(keep)?;
    let counted = first..first + u32::try_from(time.as_secs())?;
    let received = results
        .intervals
        .iter()
        .filter(|interval| counted.contains(&interval.second))
        .map(|interval| interval.received)
        .sum();
    Ok(Readings { results, received, before, after })
}

/// The first second of the run that counts, and what was read around what counts.
struct Counted<T> {
    first: u32,
    before: T,
    after: T,
}

/// Reads something, as often as it is called.
type Reader<T> = Box<dyn Fn() -> Result<T> + Send>;

/// Reads when the load begins to count, and when it ends.
struct Meter<T> {
    /// Taken once. The receiver ends the wait early where the run has failed.
    begin: Mutex<Option<(Reader<T>, Receiver<()>)>>,
    warm_up: Duration,
    time: Duration,
    /// The run's seconds are counted from here.
    base: Instant,
    reading: Mutex<Option<JoinHandle<Result<Counted<T>>>>>,
}

impl<T: Send + 'static> Conductor for Meter<T> {
    fn base(&self) -> Instant {
        self.base
    }

    fn start(&self) -> Result<Option<Instant>> {
        // On a second of the run, so that what counts is whole seconds of it.
        let whole = Duration::from_secs(self.base.elapsed().as_secs() + 1);
        let start = self.base + whole;
        let first = u32::try_from((whole + self.warm_up).as_secs())?;
        let begin = self.begin.lock().ok().and_then(|mut begin| begin.take());
        let (read, over) = begin.context("the load began twice")?;
        let (from, time) = (start + self.warm_up, self.time);
        let handle = std::thread::spawn(move || {
            wait_until(from, &over)?;
            let before = read()?;
            wait_until(from + time, &over)?;
            Ok(Counted { first, before, after: read()? })
        });
        *self.reading.lock().map_err(|_| anyhow!("the meter's lock"))? = Some(handle);
        Ok(Some(start))
    }
}

impl<T> Meter<T> {
    fn finish(self, keep: Sender<()>) -> Result<Counted<T>> {
        let reading = self.reading.into_inner().ok().flatten().context("the load never began")?;
        let read = reading.join().map_err(|_| anyhow!("the meter panicked"))?;
        drop(keep);
        read
    }
}

fn wait_until(moment: Instant, over: &Receiver<()>) -> Result<()> {
    match over.recv_timeout(moment.saturating_duration_since(Instant::now())) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        _ => bail!("the run ended early"),
    }
}

/// Nobody looks on.
#[derive(Clone, Copy, Debug)]
pub struct Unseen;

impl Watch for Unseen {
    fn status(&self, _status: &Status) {}
    fn second(&self, _second: &Second) {}
    fn is_stopped(&self) -> bool {
        false
    }
}
