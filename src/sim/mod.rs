//! The laboratory: what checks that whole clusters keep their promises.
//!
//! A server is judged by what its clients saw. [`linearizability`] takes their history, of a
//! simulated cluster or of real processes alike, and says whether one single register per key could
//! have answered the same; where it could not, it shows the answer that nothing explains.
pub mod linearizability;
