//! The protocols of Tidegate as pure state machines.
#![no_std]
extern crate alloc;
