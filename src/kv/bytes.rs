//! The bytes that clients give us: keys, values, answers.

use std::borrow::Borrow;
use std::fmt;
use std::hint::black_box;
use std::ops::Deref;

use byteview::ByteView;
use serde::{Deserialize, Serialize};

/// Bytes that never change, cloned in no time.
///
/// Up to 20 bytes, which most keys have, lie in the value itself. Longer ones are shared, also with
/// the log entry that brought them, and the count of their owners stands right before them: whoever
/// clones or drops them waits for memory once at most, and they take one allocation.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(ByteView);

impl Bytes {
    /// Brings into the processor's caches what counts the owners of these, some 32 of them, who
    /// will be more or fewer soon. To count up or down means to wait for the memory, for one count
    /// after the other; here it waits for many at once.
    pub fn fetch_owners<'a>(all: impl Iterator<Item = &'a Bytes>) {
        // What is read must be of use to somebody, or the compiler does not read it.
        black_box(all.filter(|bytes| bytes.0.ref_count() == 1).count());
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<ByteView> for Bytes {
    fn from(bytes: ByteView) -> Bytes {
        Bytes(bytes)
    }
}

/// A copy.
impl<T: AsRef<[u8]> + ?Sized> From<&T> for Bytes {
    fn from(bytes: &T) -> Bytes {
        Bytes(ByteView::new(bytes.as_ref()))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::from(&bytes)
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Bytes {
        Bytes::from(&text)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "b\"{}\"", self.escape_ascii())
    }
}
