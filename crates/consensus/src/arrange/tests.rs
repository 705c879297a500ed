use super::*;

type Roles = BTreeMap<u64, (Peer, Role)>;

fn peer(id: u64) -> Peer {
    Peer {
        address: format!("node{id}"),
    }
}

fn roles(voters: &[u64], learners: &[u64]) -> Roles {
    let voters = voters.iter().map(|&id| (id, (peer(id), Role::Voter)));
    let learners = learners.iter().map(|&id| (id, (peer(id), Role::Learner)));
    voters.chain(learners).collect()
}

fn membership(configs: &[&[u64]], nodes: &[u64]) -> Membership {
    let configs = configs
        .iter()
        .map(|config| config.iter().copied().collect())
        .collect();
    let nodes: BTreeMap<u64, Peer> = nodes.iter().map(|&id| (id, peer(id))).collect();
    Membership::new(configs, nodes).unwrap()
}

fn set(ids: &[u64]) -> BTreeSet<u64> {
    ids.iter().copied().collect()
}

fn check(membership: &Membership, roles: &Roles, me: u64, expected: Step) {
    assert_eq!(next_step(membership, roles, me), expected, "{membership}");
}

#[test]
fn each_membership_has_one_next_step() {
    let three = roles(&[1, 2, 3], &[]);
    let newcomers = BTreeMap::from([(2, peer(2)), (3, peer(3))]);
    let add = Step::Change(ChangeMembers::AddNodes(newcomers));
    check(&membership(&[&[1]], &[1]), &three, 1, add);
    let votes = Step::Voters {
        newcomers: set(&[2, 3]),
        voters: set(&[1, 2, 3]),
    };
    check(&membership(&[&[1]], &[1, 2, 3]), &three, 1, votes);
    let flatten = Step::Change(ChangeMembers::AddVoterIds(set(&[])));
    let joint = membership(&[&[1], &[1, 2, 3]], &[1, 2, 3]);
    check(&joint, &three, 1, flatten);
    let done = membership(&[&[1, 2, 3]], &[1, 2, 3]);
    check(&done, &three, 1, Step::Done);
    let two = roles(&[2], &[1]);
    check(&done, &two, 1, Step::HandOver(set(&[2])));
    let demote = Step::Voters {
        newcomers: set(&[]),
        voters: set(&[2]),
    };
    check(&done, &two, 2, demote);
    let leave = Step::Change(ChangeMembers::RemoveNodes(set(&[3])));
    check(&membership(&[&[2]], &[1, 2, 3]), &two, 2, leave);
    let both = Step::Voters {
        newcomers: set(&[2]),
        voters: set(&[1, 2]),
    };
    check(&membership(&[&[1]], &[1, 2]), &two, 1, both);
}

#[test]
fn a_node_that_has_moved_is_found_at_its_new_address() {
    let mut moved = roles(&[1, 2], &[]);
    let elsewhere = Peer {
        address: "elsewhere".to_owned(),
    };
    moved.insert(2, (elsewhere.clone(), Role::Voter));
    let change = ChangeMembers::SetNodes(BTreeMap::from([(2, elsewhere)]));
    let present = membership(&[&[1, 2]], &[1, 2]);
    check(&present, &moved, 1, Step::Change(change));
}
