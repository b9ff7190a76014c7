//! What a node of a cluster decides, without I/O and without a clock: whether its lease holds, which documents it has and under
//! which claims, what it asks the registry and the session store, and what it tells its data threads.
