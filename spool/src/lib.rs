//! Crash-safe package store.
