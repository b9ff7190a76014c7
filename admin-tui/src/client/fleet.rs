//! All nodes that are watched, on one thread.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::address::Address;
use super::node::{Act, Token, Way};
use super::trust::Trust;
use super::wire::{Ask, Update, What};
use crate::app::action::Action;

/// Updates that wait for the program: when they are full, streams wait, and nodes leave seconds out for them.
const UPDATES: usize = 1024;
/// Orders that wait for the network thread.
const ORDERS: usize = 1024;
/// Questions that wait for a node.
const ASKS: usize = 32;
/// Actions that a node is asked for at once, of several that were confirmed together; the others wait.
const ACTS_AT_ONCE: usize = 4;

/// How nodes are reached.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Certificates.
    pub trust: Trust,
    /// The token.
    pub token: Token,
    /// Documents at the top of each node that are followed.
    pub documents: usize,
}

/// The network thread, from outside. It ends when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    orders: Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Watch(Address),
    Ask(Address, Ask),
    Act(Address, Act),
}

impl Fleet {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(options: FleetOptions) -> io::Result<(Self, Receiver<Update>)> {
        let (orders, todo) = mpsc::channel(ORDERS);
        let (updates, news) = mpsc::channel(UPDATES);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let serve = move || runtime.block_on(serve(options, todo, updates));
        std::thread::Builder::new().name("network".into()).spawn(serve)?;
        Ok((Self { orders }, news))
    }

    /// Watches a node, once.
    pub fn watch(&self, address: Address) {
        self.order(Order::Watch(address));
    }

    /// Asks a node something. A question for which there is no room is dropped: it is asked again later.
    pub fn ask(&self, address: Address, ask: Ask) {
        self.order(Order::Ask(address, ask));
    }

    /// Has a node do something. False where there is no room: then nothing is done.
    #[must_use]
    pub fn act(&self, address: Address, action: &Action) -> bool {
        let (method, path, body) = action.request();
        self.order(Order::Act(address, Act { what: action.title(), method, path, body }))
    }

    fn order(&self, order: Order) -> bool {
        // Full only where the thread is stuck, of which updates tell.
        self.orders.try_send(order).is_ok()
    }
}

async fn serve(options: FleetOptions, mut todo: Receiver<Order>, updates: Sender<Update>) {
    let token = Arc::new(options.token);
    let mut nodes: HashMap<Address, (Way, Sender<Ask>)> = HashMap::new();
    while let Some(order) = todo.recv().await {
        match order {
            Order::Watch(address) => {
                if nodes.contains_key(&address) {
                    continue;
                }
                let (asks, todo) = mpsc::channel(ASKS);
                let way = Way {
                    address: address.clone(),
                    trust: options.trust.clone(),
                    token: Arc::clone(&token),
                    updates: updates.clone(),
                    documents: options.documents,
                    turns: Arc::new(Semaphore::new(ACTS_AT_ONCE)),
                };
                tokio::spawn(way.clone().follow());
                tokio::spawn(way.clone().answer(todo));
                nodes.insert(address, (way, asks));
            }
            Order::Ask(address, ask) => {
                let Some((way, asks)) = nodes.get(&address) else { continue };
                if let Err(error) = asks.try_send(ask) {
                    let ask = error.into_inner();
                    let what = What::Unanswered { ask, why: "the node is too slow for its questions".into() };
                    let _ = way.updates.try_send(Update { node: address, what });
                }
            }
            Order::Act(address, act) => {
                if let Some((way, _)) = nodes.get(&address) {
                    tokio::spawn(way.clone().act(act));
                }
            }
        }
    }
}
