//! The thread that asks registries for records of apps. It has links of its own: nothing waits for it but tokens that name an app
//! for the first time.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pinwire_registry::{Answer, Registry, Request};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Records;
use super::records::Question;

/// Questions that wait; a token that finds no room is told to come again.
const QUEUE: usize = 1024;
/// Questions under way.
const AT_ONCE: usize = 64;
/// How long an answer is waited for: a little less than for a record.
const PATIENCE: Duration = Duration::from_secs(3);

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Lookups {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Lookups {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks records of apps up panicked");
        }
    }
}

/// Starts the thread; `open` makes its links on it, one for each license region, in the order of their numbers.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn start(
    open: impl FnOnce() -> Vec<Arc<dyn Registry>> + Send + 'static,
) -> io::Result<(Arc<Records>, Lookups)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (sender, questions) = mpsc::channel(QUEUE);
    let records = Arc::new(Records::new(sender));
    let (stop, stopping) = watch::channel(());
    let learns = Arc::clone(&records);
    let thread = std::thread::Builder::new().name("records".to_owned()).spawn(move || {
        runtime.block_on(async { run(questions, open(), learns, stopping).await });
        runtime.shutdown_background();
    })?;
    Ok((records, Lookups { stop: Some(stop), thread: Some(thread) }))
}

async fn run(
    mut questions: mpsc::Receiver<Question>,
    registries: Vec<Arc<dyn Registry>>,
    records: Arc<Records>,
    mut stopping: watch::Receiver<()>,
) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopping.changed() => return,
            Some(_) = under_way.join_next(), if !under_way.is_empty() => {}
            question = questions.recv(), if under_way.len() < AT_ONCE => match question {
                Some(question) => {
                    let registry = registries.get(usize::from(question.license)).cloned();
                    let records = Arc::clone(&records);
                    under_way.spawn(async move { ask(registry, question, &records).await });
                }
                None => return,
            },
        }
    }
}

async fn ask(registry: Option<Arc<dyn Registry>>, question: Question, records: &Records) {
    let app = question.app;
    let answer = match registry {
        Some(registry) => {
            tokio::time::timeout(PATIENCE, registry.ask(Request::App { app: app.clone() })).await
        }
        None => return records.failed(&app, Instant::now()),
    };
    match answer {
        Ok(Ok(Answer::App(said))) => records.learn(&app, &said, Instant::now()),
        _ => records.failed(&app, Instant::now()),
    }
}

#[cfg(test)]
mod tests {
    use pinwire_registry::{Answering, AppName, Embedded, OutOfReach};

    use super::super::records::Found;
    use super::*;

    #[derive(Debug)]
    struct Away;

    impl Registry for Away {
        fn ask(&self, _: Request) -> Answering {
            Box::pin(std::future::ready(Err(OutOfReach { reason: "away".into() })))
        }
    }

    fn until(records: &Records, license: u8, app: &AppName) -> Found {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match records.find(license, app, Instant::now()) {
                Found::Asked => assert!(Instant::now() < deadline),
                found => return found,
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn records_are_found_where_their_license_region_has_them() {
        let (one, other) = (Embedded::new(1), Embedded::new(2));
        let app = AppName("t::a".into());
        let record = Some(r#"{"limits":{"maxDocuments":3}}"#.into());
        let put = Request::PutApp { app: app.clone(), version: 0, record };
        let answer = futures_util::FutureExt::now_or_never(other.ask(put)).unwrap().unwrap();
        assert!(matches!(answer, Answer::App(record) if record.version > 0));
        let open = move || -> Vec<Arc<dyn Registry>> { vec![Arc::new(one), Arc::new(other), Arc::new(Away)] };
        let (records, thread) = start(open).unwrap();
        let found = until(&records, 1, &app);
        assert!(
            matches!(&found, Found::Known(Some(record)) if record.limits.max_documents == Some(3)),
            "{found:?}"
        );
        let found = until(&records, 0, &AppName("t::b".into()));
        assert!(matches!(found, Found::Known(None)), "{found:?}");
        for away in [2, 3] {
            let found = until(&records, away, &AppName(format!("t::{away}").into()));
            assert!(matches!(found, Found::Away), "{found:?}");
        }
        drop(thread);
    }
}
