//! What is on its way to a peer at once.

use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use tokio::sync::watch;

use super::*;
use crate::log::tests::disk::Disk;
use crate::log::tests::open;
use crate::rpc::AppendResult;
use crate::types::{Entry, LeaderId, LogId};

/// A peer that has not written the first entry before it has been told more.
struct Writing(watch::Sender<usize>);

impl Network for Writing {
    async fn call(&self, _peer: &Member, _request: Bytes) -> Result<Bytes, UnreachableError> {
        let mut calls = self.0.subscribe();
        self.0.send_modify(|calls| *calls += 1);
        let told = calls.wait_for(|calls| *calls > 1).await;
        told.map_err(|error| UnreachableError(error.to_string()))?;
        Ok(Response::Append(AppendResult::Success).encode())
    }
}

#[tokio::test]
async fn a_peer_hears_what_is_committed_while_its_disk_writes() {
    let (log, _closer) = open(&Disk::default());
    log.adopt(1).unwrap();
    let mut links = Links::new(Writing(watch::Sender::new(0)), 1, log);
    let mut link = links.new_client(2, &Peer::default()).await;
    let at = |index| LogId::new(LeaderId::new(1, 1), index);
    let request = |entries, previous, committed| AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: Some(at(previous)),
        entries,
        leader_commit: Some(at(committed)),
    };
    let entry = Entry::new_blank(at(5));
    let requests = vec![request(vec![entry], 4, 4), request(Vec::new(), 5, 5)];
    let option = RPCOption::new(Duration::from_secs(60));
    let requests = futures_util::stream::iter(requests);
    let replies = link.stream_append(requests, option).await.unwrap();
    let replies: Vec<_> = replies.map(|reply| reply.unwrap().unwrap()).collect().await;
    assert_eq!(replies, [Some(at(5)), Some(at(5))]);
}
