//! Corpora with lineage: sources, licences, splits and tokenised shards.
