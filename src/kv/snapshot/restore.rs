//! Building a state from the items of a snapshot.

use super::{Checked, ENCODING, Octets, Record, RestoreError, ensure};
use crate::kv::StateMachine;
use crate::kv::once::OnceTable;
use crate::kv::session::Sessions;
use crate::kv::store::Loading;

/// A state that is being restored, item by item.
#[derive(Debug, Default)]
pub struct Restore {
    /// How many items have come.
    items: u64,
    /// What came last.
    stage: Stage,
    /// The index that the state stands for; known from the head on, like the log time.
    applied_index: u64,
    /// The log time, in milliseconds.
    clock_ms: u64,
    /// The keys, values and tombstones so far.
    store: Loading,
    /// The servers so far.
    sessions: Sessions,
    /// The clients so far.
    once: OnceTable,
    /// The hash that the state must have; known at the end.
    hash: u64,
}

/// How far the row has come. It only goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Nothing,
    Encoding,
    Head,
    Pairs,
    Tombstones,
    Sessions,
    Clients,
    Complete,
}

impl Restore {
    /// Takes the next item. After an error there is nothing to go on with.
    pub fn item(&mut self, item: &[u8]) -> Result<(), RestoreError> {
        self.items += 1;
        let mut rest = item;
        while !rest.is_empty() {
            let (record, behind) = postcard::take_from_bytes(rest)
                .map_err(|_| self.damaged("its bytes are no record that this version knows"))?;
            rest = behind;
            if let Record::Encoding(found) = record
                && found != ENCODING
            {
                return Err(RestoreError::Encoding { found });
            }
            self.record(record).map_err(|what| self.damaged(what))?;
        }
        Ok(())
    }

    /// The state, when all items have come.
    pub fn finish(mut self) -> Result<StateMachine, RestoreError> {
        let item = self.items;
        if self.stage != Stage::Complete {
            return Err(RestoreError::Incomplete { item });
        }
        let damaged = |what| RestoreError::Damaged { item, what };
        self.once.check_loaded().map_err(damaged)?;
        self.once.sum_up();
        let store = self.store.finish().map_err(damaged)?;
        let Restore { sessions, once, applied_index, hash: expected, .. } = self;
        let machine = StateMachine { store, sessions, once, applied_index };
        let found = machine.state_hash();
        if found == expected { Ok(machine) } else { Err(RestoreError::Hash { found, expected }) }
    }

    fn damaged(&self, what: &'static str) -> RestoreError {
        RestoreError::Damaged { item: self.items, what }
    }

    fn record(&mut self, record: Record<'_>) -> Checked {
        match record {
            Record::Encoding(_) => self.begin(Stage::Nothing, Stage::Encoding),
            Record::Head { applied_index, clock_ms, horizon } => {
                self.begin(Stage::Encoding, Stage::Head)?;
                ensure(i64::try_from(applied_index).is_ok(), "no log comes to its index")?;
                ensure(horizon <= applied_index, "its horizon is yet to come")?;
                (self.applied_index, self.clock_ms) = (applied_index, clock_ms);
                self.store = Loading::new(applied_index, clock_ms, horizon);
                Ok(())
            }
            Record::Pair { key: Octets(key), value: Octets(value), version, deadline_ms } => {
                self.advance(Stage::Pairs)?;
                self.store.pair(key, value, version, deadline_ms)
            }
            Record::Tombstone { key: Octets(key), index } => {
                self.advance(Stage::Tombstones)?;
                self.store.tombstone(key, index)
            }
            Record::Server { server, incarnation, floor } => {
                self.advance(Stage::Sessions)?;
                self.sessions.load_server(server, incarnation, floor)
            }
            Record::Range { first, last } => {
                self.advance(Stage::Sessions)?;
                self.sessions.load_range(first, last)
            }
            Record::Client { name: Octets(name), last, used_at, used_ms } => {
                self.advance(Stage::Clients)?;
                let is_past = used_at <= self.applied_index && used_ms <= self.clock_ms;
                ensure(is_past, "a client will be named only later")?;
                self.once.load_client(name, last, used_at, used_ms)
            }
            Record::Answer(answer) => {
                self.advance(Stage::Clients)?;
                self.once.load_answer(answer.into())
            }
            Record::End { hash } => {
                self.advance(Stage::Complete)?;
                self.hash = hash;
                Ok(())
            }
        }
    }

    /// Comes to a stage that has a single record and follows one that has.
    fn begin(&mut self, before: Stage, stage: Stage) -> Checked {
        ensure(self.stage == before, "a record stands in the wrong place")?;
        self.stage = stage;
        Ok(())
    }

    /// Comes to a stage behind the head, or stays in it.
    fn advance(&mut self, stage: Stage) -> Checked {
        let is_open = self.stage >= Stage::Head && self.stage < Stage::Complete;
        ensure(is_open && self.stage <= stage, "a record stands in the wrong place")?;
        self.stage = stage;
        Ok(())
    }
}
