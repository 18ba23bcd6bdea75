//! How a command looks inside a log entry: a header of fixed size, then the command.
//!
//! ```text
//! offset  0  server       u32, little-endian
//!         4  incarnation  u64
//!        12  serial       u64
//!        20  floor        u64: the lowest serial that the gateway still waits for
//!        28  the command, as postcard writes it
//! ```
//!
//! The header is not postcard, because it is written at another time. A client's thread encodes its
//! command before it takes the lock, however long that takes. Only under the lock is it known which
//! serial is next; writing it is 28 bytes at a known place. Re-sent commands get their newest floor
//! the same way.

use byteview::ByteView;
use thiserror::Error;

use crate::kv::command::{Bytes, Command, RequestId, Write};

/// Length of the header, in bytes.
pub const HEADER_BYTES: usize = 28;

/// How postcard begins `Write::Command(Command::Set { .. })`: the numbers of the variants. The
/// fields follow as in a tuple.
const SET_VARIANTS: [u8; 2] = [0, 0];

/// Why bytes are not a command of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// There is not even a header.
    #[error("a command needs a header of {HEADER_BYTES} bytes, and there are {bytes}")]
    Short {
        /// How many bytes there are.
        bytes: usize,
    },
    /// The header was never stamped, or holds numbers that no gateway stamps.
    #[error("serial {serial} with floor {floor} was never stamped by a gateway")]
    Header {
        /// The serial it claims.
        serial: u64,
        /// The floor it claims.
        floor: u64,
    },
    /// What follows the header is not a command, or is one that another version wrote.
    #[error("the bytes after the header are not a command that this version knows")]
    Command,
}

/// The command's bytes for the log, with the header still zero: [`stamp`] fills it in.
pub fn encode(write: &Write) -> ByteView {
    let size = postcard::experimental::serialized_size(write);
    let size = HEADER_BYTES + size.expect("measuring a command cannot fail");
    // Exactly: it stays in memory as long as the log, and its value as long as the key.
    let mut bytes = ByteView::with_size(size);
    let mut room = bytes.get_mut().expect("nobody else has it yet");
    let written = postcard::to_slice(write, &mut room[HEADER_BYTES..]);
    written.expect("it has just been measured");
    drop(room);
    bytes
}

/// Writes the header of an encoded command of which there is no other copy, and nothing else. It
/// requires what `check` will ask for: a serial that counts from 1, and a floor that does not
/// exceed it, as the gateway waits for this one.
pub fn stamp(command: &mut ByteView, request: RequestId, floor: u64) {
    let mut bytes = command.get_mut().expect("nobody else has it yet");
    assert!(bytes.len() >= HEADER_BYTES, "only what `encode` returned has room for a header");
    assert!(request.serial > 0, "serials count from 1; 0 means that nobody stamped the header");
    assert!(floor <= request.serial, "a gateway waits for the request that it stamps");

    bytes[0..4].copy_from_slice(&request.server.to_le_bytes());
    bytes[4..12].copy_from_slice(&request.incarnation.to_le_bytes());
    bytes[12..20].copy_from_slice(&request.serial.to_le_bytes());
    bytes[20..28].copy_from_slice(&floor.to_le_bytes());
}

/// Reads what [`encode`] and [`stamp`] wrote: whose request it is, the floor, and the command.
pub fn decode(bytes: &[u8]) -> Result<(RequestId, u64, Write), DecodeError> {
    let (request, floor) = decode_header(bytes)?;
    match postcard::take_from_bytes(&bytes[HEADER_BYTES..]) {
        Ok((write, [])) => Ok((request, floor, write)),
        // Bytes left over mean that a writer meant something which we would silently leave out.
        Ok(_) | Err(_) => Err(DecodeError::Command),
    }
}

/// As [`decode`], for whoever keeps what he gets: the key and value of a SET, which is what most
/// entries are, share the command's memory.
pub fn decode_shared(command: &ByteView) -> Result<(RequestId, u64, Write), DecodeError> {
    match decode_set(command) {
        Some(set) => {
            decode_header(command).map(|(request, floor)| (request, floor, Write::Command(set)))
        }
        None => decode(command),
    }
}

/// The key of an encoded command, if it is a SET.
pub(super) fn key_of_set(command: &[u8]) -> Option<&[u8]> {
    let fields = command.get(HEADER_BYTES..)?.strip_prefix(&SET_VARIANTS)?;
    postcard::take_from_bytes(fields).ok().map(|(key, _)| key)
}

/// The command if it is a SET.
fn decode_set(command: &ByteView) -> Option<Command> {
    let fields = command.get(HEADER_BYTES..)?.strip_prefix(&SET_VARIANTS)?;
    let (key, fields) = shared_bytes(command, fields)?;
    let (value, fields) = shared_bytes(command, fields)?;
    let ((condition, expiry, answer), []) = postcard::take_from_bytes(fields).ok()? else {
        return None;
    };
    // In the store the value keeps all of the command in memory, so it must be most of it; and the
    // key does where changes are kept.
    let is_most = value.len() >= command.len() / 2;
    let own = |bytes: Bytes| if is_most { bytes } else { Bytes::from(&bytes[..]) };
    let (key, value) = (own(key), own(value));
    Some(Command::Set { key, value, condition, expiry, answer })
}

/// The field at the beginning of these, which are the end of the command, and what follows it.
fn shared_bytes<'a>(command: &ByteView, fields: &'a [u8]) -> Option<(Bytes, &'a [u8])> {
    let (field, rest) = postcard::take_from_bytes::<&[u8]>(fields).ok()?;
    let end = command.len() - rest.len();
    Some((command.slice(end - field.len()..end).into(), rest))
}

/// Whether [`decode`] will succeed, and whose request it is. A leader asks this of every forwarded
/// command before it proposes it: once in the log, bytes that no server can decode stop all of
/// them.
pub fn check(bytes: &[u8]) -> Result<RequestId, DecodeError> {
    decode(bytes).map(|(request, _, _)| request)
}

/// Whether an encoded command may need more room than it frees: everything but deletions and
/// deadlines. It takes room in the log in any case.
pub fn needs_room(bytes: &[u8]) -> bool {
    decode_body(bytes).is_none_or(|write| write.needs_room())
}

fn decode_body(bytes: &[u8]) -> Option<Write> {
    postcard::from_bytes(bytes.get(HEADER_BYTES..)?).ok()
}

/// Whose request an encoded command is, without reading the command itself.
pub fn request_id(bytes: &[u8]) -> Result<RequestId, DecodeError> {
    decode_header(bytes).map(|(request, _)| request)
}

fn decode_header(bytes: &[u8]) -> Result<(RequestId, u64), DecodeError> {
    if bytes.len() < HEADER_BYTES {
        return Err(DecodeError::Short { bytes: bytes.len() });
    }
    let u64_at = |offset: usize| {
        let field = bytes[offset..offset + 8].try_into().expect("the slice is 8 bytes long");
        u64::from_le_bytes(field)
    };
    let server = u32::from_le_bytes(bytes[0..4].try_into().expect("the slice is 4 bytes long"));
    let request = RequestId { server, incarnation: u64_at(4), serial: u64_at(12) };
    let floor = u64_at(20);

    // `kv::session` counts one beyond a serial, so the last number of all is nobody's.
    let is_stamped = request.serial > 0 && request.serial < u64::MAX && floor <= request.serial;
    if is_stamped {
        Ok((request, floor))
    } else {
        Err(DecodeError::Header { serial: request.serial, floor })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::command::*;

    fn any_bytes() -> BoxedStrategy<Bytes> {
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(Bytes::from).boxed()
    }

    fn condition(value: BoxedStrategy<Bytes>) -> impl Strategy<Value = Condition> {
        prop_oneof![
            4 => Just(Condition::Always),
            1 => Just(Condition::IfAbsent),
            1 => Just(Condition::IfPresent),
            1 => value.prop_map(Condition::IfEqual),
            1 => (0..12_u64).prop_map(Condition::IfVersion),
        ]
    }

    fn deadline() -> impl Strategy<Value = Deadline> {
        let near = prop_oneof![8 => -3..40_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
        (any::<bool>(), near).prop_map(|(is_relative, ms)| {
            if is_relative { Deadline::In(ms) } else { Deadline::At(ms.saturating_mul(3)) }
        })
    }

    fn expiry() -> impl Strategy<Value = Expiry> {
        prop_oneof![Just(Expiry::Never), Just(Expiry::Keep), deadline().prop_map(Expiry::Set)]
    }

    fn expire_condition() -> impl Strategy<Value = ExpireCondition> {
        proptest::sample::select(vec![
            ExpireCondition::Always,
            ExpireCondition::IfNone,
            ExpireCondition::IfSome,
            ExpireCondition::IfLater,
            ExpireCondition::IfSooner,
            ExpireCondition::IfSomeAndSooner,
        ])
    }

    fn set(key: BoxedStrategy<Bytes>, value: BoxedStrategy<Bytes>) -> BoxedStrategy<Command> {
        let answers = vec![SetAnswer::Done, SetAnswer::Old, SetAnswer::Flag];
        let answer = proptest::sample::select(answers);
        (key, value.clone(), condition(value), expiry(), answer)
            .prop_map(|(key, value, condition, expiry, answer)| Command::Set {
                key,
                value,
                condition,
                expiry,
                answer,
            })
            .boxed()
    }

    /// Any command, made of the keys and values that the strategies give.
    pub(crate) fn command_of(
        key: BoxedStrategy<Bytes>,
        value: BoxedStrategy<Bytes>,
    ) -> BoxedStrategy<Command> {
        let keys = proptest::collection::vec(key.clone(), 0..4);
        let pairs = proptest::collection::vec((key.clone(), value.clone()), 0..4);
        let key = || key.clone();
        let value = || value.clone();
        prop_oneof![
            4 => set(key(), value()),
            1 => keys.prop_map(|keys| Command::Delete { keys }),
            1 => (key(), value()).prop_map(|(key, old)| Command::DeleteIfEqual { key, old }),
            1 => key().prop_map(|key| Command::GetAndDelete { key }),
            1 => (key(), expiry()).prop_map(|(key, expiry)| Command::GetAndExpire { key, expiry }),
            1 => (key(), value(), 0..20_u64).prop_map(|(key, value, value_bytes_max)| {
                Command::Append { key, value, value_bytes_max }
            }),
            1 => (key(), value(), value())
                .prop_map(|(key, old, new)| Command::CompareAndSet { key, old, new }),
            1 => (key(), prop_oneof![Just(i64::MAX), Just(i64::MIN), -3..3_i64])
                .prop_map(|(key, delta)| Command::Increment { key, delta }),
            1 => (pairs, any::<bool>())
                .prop_map(|(pairs, if_absent)| Command::SetMany { pairs, if_absent }),
            2 => (key(), deadline(), expire_condition()).prop_map(|(key, deadline, condition)| {
                Command::Expire { key, deadline, condition }
            }),
            1 => key().prop_map(|key| Command::Persist { key }),
            1 => Just(Command::Flush),
            1 => (key(), 0..9_u64, value(), 0..20_u64).prop_map(
                |(key, offset, value, value_bytes_max)| {
                    Command::SetRange { key, offset, value, value_bytes_max }
                }
            ),
            1 => (key(), key(), any::<bool>()).prop_map(|(key, new_key, if_absent)| {
                Command::Rename { key, new_key, if_absent }
            }),
            1 => (key(), key(), any::<bool>())
                .prop_map(|(key, new_key, replace)| Command::Copy { key, new_key, replace }),
        ]
        .boxed()
    }

    /// Any query, made of such keys.
    pub(crate) fn query_of(key: BoxedStrategy<Bytes>) -> BoxedStrategy<Query> {
        let keys = proptest::collection::vec(key.clone(), 0..4).boxed();
        let key = || key.clone();
        let keys = || keys.clone();
        let format = proptest::sample::select(vec![
            DeadlineFormat::Seconds,
            DeadlineFormat::Milliseconds,
            DeadlineFormat::UnixSeconds,
            DeadlineFormat::UnixMilliseconds,
        ]);
        prop_oneof![
            key().prop_map(|key| Query::Get { key }),
            key().prop_map(|key| Query::GetVersioned { key }),
            (key(), -4..4_i64, -4..4_i64).prop_map(|(key, start, end)| Query::GetRange {
                key,
                start,
                end
            }),
            keys().prop_map(|keys| Query::Exists { keys }),
            key().prop_map(|key| Query::Type { key }),
            key().prop_map(|key| Query::Length { key }),
            keys().prop_map(|keys| Query::GetMany { keys }),
            (key(), proptest::option::of(key()), 0..4_usize)
                .prop_map(|(from, to, pairs_max)| Query::Range { from, to, pairs_max }),
            (0..2_u64, proptest::option::of(key()), 0..9_usize)
                .prop_map(|(cursor, pattern, count)| Query::Scan { cursor, pattern, count }),
            key().prop_map(|pattern| Query::Keys { pattern }),
            Just(Query::Count),
            (key(), format).prop_map(|(key, format)| Query::TimeToLive { key, format }),
            keys().prop_map(|keys| Query::Watch { keys }),
            Just(Query::AppliedIndex),
            proptest::option::of(key()).prop_map(|message| Query::Echo { message }),
            Just(Query::Acknowledge),
        ]
        .boxed()
    }

    fn operation(
        key: BoxedStrategy<Bytes>,
        value: BoxedStrategy<Bytes>,
    ) -> impl Strategy<Value = Operation> {
        prop_oneof![
            command_of(key.clone(), value).prop_map(Operation::Command),
            query_of(key).prop_map(Operation::Query),
        ]
    }

    /// Any write, made of such keys and values.
    pub(crate) fn write_of(
        key: BoxedStrategy<Bytes>,
        value: BoxedStrategy<Bytes>,
    ) -> BoxedStrategy<Write> {
        let watch = (key.clone(), 0..30_u64, any::<bool>())
            .prop_map(|(key, seen_at, existed)| Watch { key, seen_at, existed });
        let watches = proptest::collection::vec(watch, 0..2);
        let operations = proptest::collection::vec(operation(key.clone(), value.clone()), 0..4);
        let command = command_of(key.clone(), value);
        prop_oneof![
            4 => command.clone().prop_map(Write::Command),
            1 => (watches, operations)
                .prop_map(|(watches, operations)| Write::Transaction { watches, operations }),
            1 => (key, 0..4_u64, command)
                .prop_map(|(client, sequence, command)| Write::Once { client, sequence, command }),
        ]
        .boxed()
    }

    const REQUEST: RequestId = RequestId { server: 3, incarnation: 7, serial: 9 };

    proptest! {
        /// What a gateway stamped is what every server applies.
        #[test]
        fn a_write_comes_back_as_it_was_stamped(write in write_of(any_bytes(), any_bytes())) {
            let mut bytes = encode(&write);
            prop_assert!(bytes.len() <= HEADER_BYTES + write.bytes());
            prop_assert_eq!(check(&bytes), Err(DecodeError::Header { serial: 0, floor: 0 }));
            stamp(&mut bytes, REQUEST, 4);
            prop_assert_eq!(decode(&bytes), Ok((REQUEST, 4, write)));
            prop_assert_eq!(decode_shared(&bytes), decode(&bytes));
            let key = match decode(&bytes) {
                Ok((_, _, Write::Command(Command::Set { key, .. }))) => Some(key),
                _ => None,
            };
            prop_assert_eq!(key_of_set(&bytes), key.as_deref());

            // A cut or prolonged command must not pass for another one.
            for length in 0..bytes.len() {
                prop_assert!(check(&bytes[..length]).is_err());
                let cut = bytes.slice(..length);
                prop_assert_eq!(decode_shared(&cut), decode(&cut));
            }
            let longer = ByteView::fused(&bytes, &[0]);
            prop_assert_eq!(check(&longer), Err(DecodeError::Command));
            prop_assert_eq!(decode_shared(&longer), Err(DecodeError::Command));
        }

        /// A peer's bytes are checked before they are proposed: they must not be able to panic
        /// there.
        #[test]
        fn any_bytes_can_be_checked(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = check(&bytes);
            let _ = key_of_set(&bytes);
        }
    }

    /// Session tables add one to a serial, and a floor above its own serial would ignore itself.
    #[test]
    fn a_header_that_no_gateway_stamps_is_refused() {
        let mut bytes = encode(&Command::Delete { keys: Vec::new() }.into()).to_vec();
        bytes[20] = 2; // the floor
        bytes[12] = 1; // the serial
        assert_eq!(check(&bytes), Err(DecodeError::Header { serial: 1, floor: 2 }));
        bytes[12..20].fill(0xff);
        assert_eq!(check(&bytes), Err(DecodeError::Header { serial: u64::MAX, floor: 2 }));
        assert_eq!(check(&bytes[..27]), Err(DecodeError::Short { bytes: 27 }));
    }
}
