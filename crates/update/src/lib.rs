//! Update codec and integer aggregation.
