//! Hosts the state machine over a journal and serves the nodes.
