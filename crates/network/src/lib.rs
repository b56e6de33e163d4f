//! The iroh transport: endpoints, framed messages, blob exchange.
