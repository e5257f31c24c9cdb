//! Shared async plumbing.
