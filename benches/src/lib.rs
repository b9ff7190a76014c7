//! Measurements from the outside: servers in processes of their own, clients in another.
//!
//! | module | concern |
//! | --- | --- |
//! | [`roles`] | what a measuring command is when it is not measuring: a node, a floor, a bench server |
//! | [`child`] | a server as a child of the measuring command |
//! | [`node`] | the node under test |
//! | [`bench_server`] | the node's engine and codec without documents |
//! | [`floor`] | servers that do as little as a server can |
//! | [`echo_client`] | a lean client that keeps messages under way and checks each that comes back |
//! | [`windows`] | windows of load that are held against each other: echo, topics of a floor, documents of a node |
//! | [`statistics`] | medians and paired ratios |
//! | [`fleet`] | many y-websocket clients on one thread |
//! | [`peers`] | other Yjs servers, installed from npm |
//! | [`region`] | two servers of a region over one Redis |
//! | [`cgroup`] | a control group for a server under pressure |
//! | [`cluster`] | a cluster of real processes that was started for the command |
//! | [`console`] | the console in a process and a terminal of its own |
//! | [`counted`] | a way to a server on which bytes are counted |
//! | [`made_up`] | made-up nodes for the console |
//! | [`frames`] | how long pictures of the console take |
//! | [`sides`] | what is held against each other: the node and its peers |
//! | [`crowd`] | many idle clients of one node, how they come and leave |
//! | [`knocking`] | clients that are refused: how they ask, and what they are told |
//! | [`certificate`] | a certificate of `localhost` |
//! | [`beside`] | something that happens beside a load |
//! | [`load`] | load of `pinwire-loadgen`, with the server's processor time |
//! | [`tokens`] | a token of its own for every client |
//! | [`edits`] | the smallest edits that Yjs knows |
//! | [`typing`] | a long document, typed one character at a time |
//! | [`ledger`] | who was sent which edit, exactly once and in order |
//! | [`procfs`] | what the kernel says about a process |
//! | [`report`] | results as files |
//! | [`instructions`] | what a piece of code takes, counted by valgrind |

pub mod bench_server;
pub mod beside;
pub mod certificate;
pub mod cgroup;
pub mod child;
pub mod cluster;
pub mod console;
pub mod counted;
pub mod crowd;
pub mod echo_client;
pub mod edits;
pub mod fleet;
pub mod floor;
pub mod frames;
pub mod instructions;
pub mod knocking;
pub mod ledger;
pub mod load;
pub mod made_up;
pub mod node;
pub mod peers;
pub mod procfs;
pub mod region;
pub mod report;
pub mod roles;
pub mod sides;
pub mod statistics;
pub mod tokens;
pub mod typing;
pub mod windows;
