//! What the tests of the metadata log share: a state machine that keeps everything it was told, and
//! a node on it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cluster::metadata_log::{PendingSnapshot, RestoreError, StateMachine};
use consensus::{Alone, Consensus, NodeId, Options, StartError};

/// Commands by index, and a view of them for the test. Its answer is `<index>:<command>`.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) state: Arc<Mutex<BTreeMap<u64, Bytes>>>,
    pub(crate) restored: Arc<Mutex<usize>>,
}

impl Ledger {
    pub(crate) fn commands(&self) -> Vec<Bytes> {
        self.state.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().unwrap().len()
    }

    pub(crate) fn restored(&self) -> usize {
        *self.restored.lock().unwrap()
    }

    pub(crate) fn holds(&self, command: &[u8]) -> bool {
        self.state
            .lock()
            .unwrap()
            .values()
            .any(|held| held == command)
    }
}

impl StateMachine for Ledger {
    fn apply(&mut self, index: u64, commands: &[Bytes]) -> Vec<Bytes> {
        let mut state = self.state.lock().unwrap();
        let mut answers = Vec::new();
        for (index, command) in (index..).zip(commands) {
            let before = state.insert(index, command.clone());
            assert_eq!(before, None, "entry {index} was applied twice");
            answers.push(answer(index, command));
        }
        answers
    }

    fn snapshot(&self) -> PendingSnapshot {
        let state = self.state.lock().unwrap().clone();
        Box::new(move || {
            let mut bytes = Vec::new();
            for (index, command) in state {
                bytes.extend_from_slice(&index.to_le_bytes());
                bytes.extend_from_slice(&(command.len() as u32).to_le_bytes());
                bytes.extend_from_slice(&command);
            }
            bytes.into()
        })
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let mut state = BTreeMap::new();
        let mut rest = snapshot;
        while !rest.is_empty() {
            let wrong = || RestoreError("not a ledger".to_owned());
            let (index, tail) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
            let (length, tail) = tail.split_first_chunk::<4>().ok_or_else(wrong)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (command, tail) = tail.split_at_checked(length).ok_or_else(wrong)?;
            state.insert(u64::from_le_bytes(*index), Bytes::copy_from_slice(command));
            rest = tail;
        }
        *self.state.lock().unwrap() = state;
        *self.restored.lock().unwrap() += 1;
        Ok(())
    }
}

pub(crate) fn answer(index: u64, command: &[u8]) -> Bytes {
    let mut answer = format!("{index}:").into_bytes();
    answer.extend_from_slice(command);
    answer.into()
}

pub(crate) fn options(folder: &Path) -> Options {
    Options::new(folder, NodeId(1), "warren@test")
}

/// Starts a node that is alone, with its ledger.
pub(crate) async fn open(options: Options) -> Result<(Consensus, Ledger), StartError> {
    let ledger = Ledger::default();
    let consensus = consensus::start(options, ledger.clone(), Alone).await?;
    Ok((consensus, ledger))
}
