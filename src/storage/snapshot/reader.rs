//! Reading a snapshot file from its beginning to its end, in little memory, believing nothing.
//!
//! A frame is read whole, checked, and only then looked into. How long a frame claims to be is held
//! against what is left of the file and against the longest frame there is before memory is
//! reserved for it (S98).

use std::path::{Path, PathBuf};

use super::SnapshotError;
use super::format::{
    self, FORMAT_VERSION, FRAME_HEAD_BYTES, FrameHead, Header, ITEM_HEAD_BYTES, Kind,
    PAYLOAD_BYTES_MAX,
};
use crate::storage::disk::DiskReader;

/// An open snapshot, read in order.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// What a person calls the file.
    file: PathBuf,
    /// The length of the file, in bytes.
    length_bytes: u64,
    /// Where the next frame begins.
    offset_bytes: u64,
    /// The CRC of the frame before it.
    crc: u32,
    header: Header,
    /// The payload of the frame being looked into; it has been checked.
    block: Vec<u8>,
    /// Where in it the next item begins.
    at: usize,
    items: u64,
    ended: bool,
}

/// What a snapshot that is whole and well amounts to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// What it says about itself.
    pub header: Header,
    /// The length of the file, in bytes.
    pub file_bytes: u64,
    /// How many items it holds.
    pub items: u64,
    /// How long they are together, in bytes.
    pub item_bytes: u64,
    /// How long the longest is, in bytes.
    pub longest_item_bytes: u64,
}

impl<R: DiskReader> Reader<R> {
    /// Reads and checks the header.
    pub fn open(source: R, file: &Path) -> Result<Reader<R>, SnapshotError> {
        let mut reader = Reader {
            length_bytes: 0,
            source,
            file: file.to_path_buf(),
            offset_bytes: 0,
            crc: 0,
            header: Header::default(),
            block: Vec::new(),
            at: 0,
            items: 0,
            ended: false,
        };
        reader.length_bytes = reader.source.length_bytes().map_err(|source| reader.io(source))?;
        reader.read_header()?;
        Ok(reader)
    }

    /// What the snapshot says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next item. `None` means that there are no more, and that the whole file was as it was
    /// written. After an error there is nothing more to be had.
    pub fn next_item(&mut self) -> Result<Option<&[u8]>, SnapshotError> {
        while self.at == self.block.len() {
            if self.ended {
                return Ok(None);
            }
            let begin = self.offset_bytes;
            let sound = match self.read_frame()? {
                Kind::Block => Ok(()),
                Kind::End => self.take_end(),
                Kind::Header => Err("a second header"),
            };
            if let Err(reason) = sound {
                // What has been read is no block. That is found again by whoever asks again.
                self.block.clear();
                (self.offset_bytes, self.crc) = (begin, !self.crc);
                return Err(self.damaged(reason));
            }
        }
        let begin = self.at + ITEM_HEAD_BYTES;
        let length = (begin <= self.block.len()).then(|| format::u32_at(&self.block, self.at));
        let end = length.and_then(|length| begin.checked_add(length as usize));
        let Some(end) = end.filter(|&end| end <= self.block.len()) else {
            return Err(self.damaged("a block checks, but does not consist of items"));
        };
        self.at = end;
        self.items += 1;
        Ok(Some(&self.block[begin..end]))
    }

    /// Reads on to the end.
    pub fn verify(mut self) -> Result<Summary, SnapshotError> {
        let (mut item_bytes, mut longest_item_bytes) = (0, 0);
        while let Some(item) = self.next_item()? {
            item_bytes += item.len() as u64;
            longest_item_bytes = longest_item_bytes.max(item.len() as u64);
        }
        let Reader { header, length_bytes, items, .. } = self;
        Ok(Summary { header, file_bytes: length_bytes, items, item_bytes, longest_item_bytes })
    }

    fn read_header(&mut self) -> Result<(), SnapshotError> {
        if self.read_frame()? != Kind::Header {
            return Err(self.damaged("it does not begin with a header"));
        }
        let Some((version, rest)) = format::split_version(&self.block) else {
            return Err(self.damaged("its header has no version"));
        };
        if version != FORMAT_VERSION {
            let file = self.file.clone();
            return Err(SnapshotError::UnknownFormat {
                file,
                found: version,
                known: FORMAT_VERSION,
            });
        }
        self.header = format::decode_header(rest).map_err(|reason| self.damaged(reason))?;
        self.block.clear();
        Ok(())
    }

    /// Reads the next frame, and moves on only if it checks.
    fn read_frame(&mut self) -> Result<Kind, SnapshotError> {
        let mut block = std::mem::take(&mut self.block);
        self.at = 0;
        let left = self.length_bytes - self.offset_bytes;
        let Some(left) = left.checked_sub(FRAME_HEAD_BYTES as u64) else {
            return Err(self.damaged("it ends too early"));
        };
        let mut head = [0; FRAME_HEAD_BYTES];
        self.read_at(self.offset_bytes, &mut head)?;
        let Some(head) = FrameHead::decode(&head) else {
            return Err(self.damaged("there is no part of a snapshot here"));
        };
        let length = head.payload_bytes;
        if u64::from(length) > left || length as usize > PAYLOAD_BYTES_MAX {
            return Err(self.damaged("it ends too early, or the length here is wrong"));
        }
        block.resize(length as usize, 0);
        self.read_at(self.offset_bytes + FRAME_HEAD_BYTES as u64, &mut block)?;
        let crc = format::crc(self.crc, head.kind, &block);
        if crc != head.crc {
            return Err(self.damaged("the checksum is wrong"));
        }
        self.block = block;
        self.crc = crc;
        self.offset_bytes += (FRAME_HEAD_BYTES + self.block.len()) as u64;
        Ok(head.kind)
    }

    fn take_end(&mut self) -> Result<(), &'static str> {
        if self.block != self.items.to_le_bytes() {
            return Err("it does not hold as many items as it says");
        }
        if self.offset_bytes != self.length_bytes {
            return Err("something follows its end");
        }
        self.block.clear();
        self.ended = true;
        Ok(())
    }

    fn read_at(&self, offset_bytes: u64, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.source.read_at(offset_bytes, bytes).map_err(|source| self.io(source))
    }

    fn damaged(&self, reason: &'static str) -> SnapshotError {
        let (file, offset_bytes) = (self.file.clone(), self.offset_bytes);
        SnapshotError::Damaged { file, offset_bytes, reason }
    }

    fn io(&self, source: std::io::Error) -> SnapshotError {
        SnapshotError::Io { doing: "reading", file: self.file.clone(), source }
    }
}
