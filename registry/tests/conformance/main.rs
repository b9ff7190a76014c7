//! What holds for every registry: in the process, on a Redis server, with TLS and a user of its own, under Sentinel, in a Cluster.

#![allow(missing_docs, reason = "a test")]

mod ask;
mod compare;
mod redis;
mod rules;

use pinwire_registry::Embedded;

#[tokio::test]
async fn embedded_keeps_the_rules() {
    rules::all(&Embedded::new(1)).await;
}

#[tokio::test]
async fn embedded_gives_a_document_to_one_region_whoever_races() {
    let registry = Embedded::new(1);
    rules::race(&[registry.clone(), registry.clone(), registry.clone(), registry]).await;
}
