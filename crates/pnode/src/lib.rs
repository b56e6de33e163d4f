//! The worker daemon: joins a network, fetches what it needs, runs tasks, serves blobs.
