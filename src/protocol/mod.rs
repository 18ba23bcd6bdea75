//! To come.

pub mod status;
