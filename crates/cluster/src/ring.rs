//! Guaranteed multicast on a ring: what one member broadcasts, all members get and store.
//!
//! Every queue that is kept on several nodes has a ring; its members are the copies of the queue.
//! Who is a member is not decided here: a consensus log says so, view by view. Inside a view no
//! agreement is needed, and any member may broadcast at any time.
//!
//! # Guarantee
//!
//! - **Delivery**. Members that stay in the ring deliver the same publications of each publisher,
//!   each once, in the order of their numbers, without a gap: all that a living publisher sends; of
//!   a dead one, all that any survivor has got.
//! - **Completion**. When a member is told `Completed { up_to }`, every member of the view that it
//!   has installed has stored its broadcasts up to that number, itself included.
//! - **What is complete is kept**. It was or will be delivered at every member of every later view.
//! - **Settling**. What is told `Settled` is complete, and was received by every member that the
//!   installed view has. Its payload is forgotten.
//! - **Births and deaths**. `Born(p)` comes before everything else of p, `Died(p)` after it, each
//!   once. All survivors have the same of p when they are told `Died(p)`.
//! - **Memory**. A member keeps of a publisher what that has not settled, and nothing of the dead
//!   once all have stored what they left.
//!
//! No order is promised between publishers. The last broadcasts of a member that dies may reach
//! nobody; then they were not complete.
//!
//! # How it works
//!
//! ```text
//!        publications, marks, what is settled, phases: all travel to the right
//!     +--> A --------> B --------> C --+
//!     +--------------------------------+
//! ```
//!
//! *Publications*. A sends to B; each member keeps, delivers and at once passes on what is new to
//! it, before its own disk; C does not return to A what is A's.
//!
//! *Marks*. Behind them a number travels: "from the publisher to here all have stored up to n". B
//! begins with what it has stored itself, each other member passes on the smaller of that and what
//! it hears. What C says to A, and A has stored itself, is complete. So the disks of all work at
//! the same time, and the publisher waits for the slowest and not for the sum.
//!
//! *Settling*. A tells what is complete: with its next packet, or at once if not much is left that
//! would cause one. This makes a second circle, on which each member forgets payloads. Until then
//! it keeps them for its right neighbour, which may come to be another one.
//!
//! All this is gathered: a call makes at most one packet, with everything that is new. Publications
//! and what is settled are *facts*: they stay true and are taken in whatever view they arrive.
//! Marks and phases are *of a view*: with each view all begin at nothing, and they count only at a
//! receiver which has the view of the sender. Whoever has not installed it yet keeps the packet.
//!
//! *Links*. Packets between two members are numbered. A packet is *whole* if it says everything
//! that its sender holds; any other is taken only if it follows the one before it. The first one to
//! a new right neighbour is whole, so is the next one after the link was lost, and so is the first
//! after a step in the views that was not seen. A receiver takes packets from its left neighbour in
//! the installed view alone.
//!
//! *The dead*. The first member of a view is its head. It inherits the dead, who are those that
//! have left and are not cleared. With each view it sends phases round the ring; each begins at the
//! head when the one before has come back there, and others pass it on:
//!
//! ```text
//!   gather   at once                              whoever passes it hears no dead any more
//!   seal     at once; Died is told                has all of the dead that any member has
//!   store    once all of the dead is stored here  -
//!   settle   at once; the payloads are forgotten  -
//!   clear    at once; the names are forgotten     -
//! ```
//!
//! If no member knows of a dead one, it ends with the first circle.
//!
//! Another way is to let the nearest member downstream inherit, as it has heard most. That needs
//! all members to have seen the same views in the same order, newcomers to stand right behind the
//! member they got their state from, and an order that never changes. The circle of the first phase
//! buys freedom from all three: views may be skipped, and may put members in any order.
//!
//! *Newcomers*. A view with X in it is decided first. Then some member M of it, which is not new
//! itself and has installed this view or a later one with X, gives X a copy of all that was
//! delivered to it, and at the same point of its life a [`Handover`]. X begins in the view of M.
//! If M dies before that, any other such member will do; if there is none, X has to leave the view.
//! Nothing new is complete from the first installation until X has stored it, so do first on the
//! side what takes long.
//! X stands in for the members before it only when it has stored all of this copy: until then a
//! member of the view is not yet one that may be left alone with the queue.
//!
//! # What callers must keep
//!
//! 1. Views come from one log; versions differ. A member that was out of a view never is in a later
//!    one. Who comes back has another id.
//! 2. A link keeps order and doubles nothing while it lasts; from a lost link no packet arrives
//!    after one of the next link. A loss is followed by `reconnected`, sooner or later.
//! 3. `stored` is said only of what survives as it should.
//! 4. `new` is for members of the first view of the ring. They may start late, in any later view
//!    that has them. Everybody else uses `join`, as described.
//!
//! If 2 is broken by a loss that is not told, the ring stands still. Most other breaches show as a
//! gap in numbers; then `Effect::Diverged` is told and the member stops before it does harm.
//!
//! # What may happen
//!
//! | event | what follows |
//! |---|---|
//! | a packet is lost | those after it are ignored until the whole one |
//! | neighbours are in different views | facts flow from the older to the newer; what is of the newer waits at the older; nothing is complete in the newer until all have it |
//! | a member is removed that lives | it may still complete what all had stored before they left its view; then it hears `Stopped` |
//! | a member dies whom nobody removes | nothing completes; the layer above has to notice |
//! | publisher and those right of it die together | survivors have what any of them got; it is the same for all |
//! | the head dies during its phases | the next view has a head, which starts from the first phase |
//! | a view is skipped | births and deaths in it may be told late, or never if nothing was heard of them |
//! | the left neighbour dies before a newcomer has heard from it | the next left neighbour sends a whole packet; the newcomer has all it needs from the handover |
//! | everybody else dies | the last one completes by its own disk |
//!
//! # Lemmas
//!
//! A view w is *before* v if its version is smaller. "p's n" is publication n of p.
//!
//! **L1 (links)**. When X takes a packet of its left neighbour L, X has received everything that L
//! had received when it sent this packet, except X's own and what is cleared at X.
//! By induction on the packets since the last whole one: that one holds all that L had not settled,
//! and what was settled X has by L3. Later ones hold what was new at L since, and none between is
//! missing, as numbers show. L's first packet to X in a series of views in which X is right of L is
//! whole: either L saw X become its neighbour, or it skipped a view. X forgets what it expects
//! whenever it sees its left neighbour change. If X has dropped packets because L was not its
//! neighbour in X's view, then L installs that view too, or skips it, before X is its neighbour
//! again. A packet that X kept for later may be replaced by a whole one from L only, which says at
//! least as much.
//!
//! **L2 (completion)**. If p reports n complete in view v, every member of v had stored p's n.
//! The mark that p counts came from its left neighbour in v, in a packet sent in v. That member
//! computed it in v from its own storing and a mark sent in v by its left neighbour in v, and so on
//! to the right neighbour of p; this passes every member of v. Marks are dropped when a view
//! begins, so none is from another view, and storing never goes back.
//!
//! **L3 (inheritance of what is complete)**. If p's n was complete in w, every member of w and of
//! every view after w has received p's n: from its start if it joins later, otherwise before it
//! installs a view after w.
//! For members of w by L2: the mark of a member in w was sent before it left w, so its storing was
//! earlier still. A newcomer X of a view v after w starts with the state of M at a time when M had
//! installed v or a later view. If M is in w, it had n by then; if not, it joined after w itself,
//! and by induction over the order of joining started with n or with something later. Every chain
//! of handovers begins with a founder, and a founder that is in a view after w is in w.
//! A settled number is therefore safe to forget at once, whatever view either end is in: nobody
//! who may come to be a neighbour needs it.
//!
//! **L4 (the dead are gathered)**. Let p be out of v. When gather has come back to the head of v,
//! the head has all of p that any member of v has or will ever have, except for members that stop.
//! Let F be the largest number of p that a member had when it passed gather (the head: when it came
//! back). By L1 the second has what the head had, the third what the second had, and so on to the
//! head again: the head has F. Suppose that somebody receives more than F later, and take the first
//! to do so. It is in v or a later view, so it did not take it from p, nor from anyone who left,
//! but from a left neighbour that is a member of v or a newcomer. That one had it before, which
//! for a member of v contradicts that this is the first, or F. A newcomer's start is the state of a
//! member of v, or of a newcomer before it. Here it matters that gather is passed only by members
//! that have installed v, and that they take nothing from others than the left neighbour: what p
//! sent and is still on its way is dropped, even if it was sent in time.
//!
//! **L5 (agreement on the dead)**. All survivors are told `Died(p)` with the same publications
//! delivered. Seal follows gather, so by L1 whoever passes it has F, and by L4 never gets more. If
//! a view comes before all have passed it, the new head gathers again. Should one survivor have
//! passed seal in the old view, it has F, so the new largest is F; if none has, nobody was told.
//!
//! **L6 (the dead are settled)**. Store is passed by those that have stored F of every p that they
//! know, and at that time they know all (L1, L5): when it has come back, all of the view have
//! stored it, and L3 holds for it as for what a publisher has completed.
//!
//! **L7 (the dead are not raised)**. Nobody who has cleared p hears publications of it again.
//! Clear begins when settle has come back, so when it is passed nobody in the view keeps a payload
//! of p, and neither does a later newcomer, by its handover. Those who have not passed clear know p
//! as settled and take what may come for doubles. Where no member knows dead there is nothing to
//! clear, and by the argument of L4 there will not be.
//!
//! **L8 (liveness)**. If from some time on no view is decided, all members of the last one live,
//! install it, store what they get, and links lose nothing that is not told, then all broadcasts
//! complete and memory ends empty. Whatever one member has and its right neighbour lacks is on its
//! way, or a whole packet is; every number that a packet carries grows only and is limited; so all
//! members come to have all, marks come back, and phases do too.
//!
//! The tests let thousands of random lives break links, skip views, kill, evict, add and reorder,
//! and check the guarantee after every event; broken rules (`mutant.rs`) show that they would see.

mod mutant;
mod packet;
mod publisher;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use mutant::Mutant;
pub use packet::{DecodeError, Handover, Packet};
use packet::{Part, Phase};
use publisher::Publisher;

/// One life of one member. A member that was started again is another one and has another id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// Who is in the ring, as the consensus log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Grows from view to view. Steps of one spare a resend; larger ones are right too.
    pub version: u64,
    /// Living members in ring order, none twice. The right neighbour of the last is the first.
    pub members: Vec<MemberId>,
}

/// What a member asks of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this to another member. If it cannot be sent it may be dropped, as long as
    /// [`Member::reconnected`] follows.
    Send { to: MemberId, packet: Packet },
    /// Publications of another member, without a gap from number `first` on.
    Deliver {
        publisher: MemberId,
        first: u64,
        payloads: Vec<Bytes>,
    },
    /// All members of the installed view have stored the own publications up to this number.
    Completed { up_to: u64 },
    /// The publications of another member up to this number are complete: all have stored them.
    Settled { publisher: MemberId, up_to: u64 },
    /// This member is in the ring. Comes before anything of it is delivered.
    Born(MemberId),
    /// This member is out of the ring and nothing more of it will be delivered, here or elsewhere.
    Died(MemberId),
    /// The installed view is without this member, which does nothing any more.
    Stopped,
    /// What came from the left does not continue what is here, so somebody has broken a rule of
    /// this file. The member does nothing any more and has to be taken out of the view.
    Diverged,
}

/// A member of the ring. See the top of this file.
#[derive(Clone, Debug)]
pub struct Member {
    me: MemberId,
    view: View,
    /// Neighbours; `None` while alone.
    left: Option<MemberId>,
    right: Option<MemberId>,
    /// All of the view, this member too, and the dead that are not cleared yet.
    publishers: BTreeMap<MemberId, Publisher>,
    phase: Phase,
    left_phase: Phase,
    sent_phase: Phase,
    /// Somebody between the head and here knows dead that are not cleared.
    left_dead: bool,
    /// Number of the last packet sent.
    sent_number: u64,
    /// Number of the next packet from the left; `None` until a whole one has come.
    expected: Option<u64>,
    /// The next packet to the right has to be whole.
    relink: bool,
    /// Packets of views that are not installed yet, by sender, in order.
    early: BTreeMap<MemberId, Vec<Packet>>,
    stopped: bool,
    #[cfg(test)]
    mutant: Option<Mutant>,
}

/// What came does not continue what is here.
struct Divergence;

impl Member {
    /// A founder: a member of the first view that this ring had, and of all since.
    #[must_use]
    pub fn new(me: MemberId, view: View) -> Member {
        Member::start(me, view, BTreeMap::new())
    }

    /// A newcomer, with the state of a member that had installed a view with the newcomer in it.
    /// It must hold a copy of everything that was delivered there. Once this copy is stored, that
    /// is told with [`Member::stored`], for each publisher in [`Member::held`].
    #[must_use]
    pub fn join(me: MemberId, handover: Handover) -> Member {
        let parts = handover.parts.into_iter();
        let publishers = parts
            .filter(|part| part.publisher != me)
            .map(|part| (part.publisher, Publisher::handed(part)))
            .collect();
        Member::start(me, handover.view, publishers)
    }

    fn start(me: MemberId, view: View, publishers: BTreeMap<MemberId, Publisher>) -> Member {
        let mut member = Member {
            me,
            view: View {
                version: 0,
                members: Vec::new(),
            },
            left: None,
            right: None,
            publishers,
            phase: Phase::Start,
            left_phase: Phase::Start,
            sent_phase: Phase::Start,
            left_dead: false,
            sent_number: 0,
            expected: None,
            relink: true,
            early: BTreeMap::new(),
            stopped: false,
            #[cfg(test)]
            mutant: None,
        };
        // The caller knows these births.
        member.adopt(view, &mut Vec::new());
        member
    }

    /// What a newcomer needs, taken after a view with the newcomer in it was installed. Together
    /// with it goes a copy of all that was delivered here, broadcasts of this member included.
    #[must_use]
    pub fn handover(&self) -> Handover {
        let publishers = self.publishers.iter();
        Handover {
            view: self.view.clone(),
            parts: publishers
                .map(|(&id, publisher)| publisher.whole(id))
                .collect(),
        }
    }

    /// Sends `payload` to all members. Returns its number; they count from 1 without a gap.
    pub fn broadcast(&mut self, payload: Bytes, out: &mut Vec<Effect>) -> u64 {
        self.broadcast_all(&[payload], out)
    }

    /// Sends several payloads as one packet. Returns the number of the last. (Once stopped: zero,
    /// and nothing is sent.)
    pub fn broadcast_all(&mut self, payloads: &[Bytes], out: &mut Vec<Effect>) -> u64 {
        if self.stopped {
            return 0;
        }
        let own = self.own();
        own.append(payloads);
        let number = own.received();
        self.flush(out);
        number
    }

    /// A later view. Older ones and the present one are ignored.
    pub fn install(&mut self, view: View, out: &mut Vec<Effect>) {
        if self.stopped || view.version <= self.view.version {
            return;
        }
        if !view.members.contains(&self.me) {
            self.stop(Effect::Stopped, out);
            return;
        }
        self.adopt(view, out);
        if self.breaks(Mutant::DieAtOnce) {
            self.tell_deaths(out);
        }
        self.settle_own(out);
        self.advance(out);
        self.receive_early(out);
        self.flush(out);
    }

    /// A packet from another member, over a link that keeps the order while it lasts.
    pub fn receive(&mut self, from: MemberId, packet: Packet, out: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        if packet.version > self.view.version {
            if self.breaks(Mutant::DropEarly) {
                return;
            }
            let early = self.early.entry(from).or_default();
            if packet.whole {
                // It says all that the ones before it say.
                early.clear();
            }
            early.push(packet);
            return;
        }
        self.accept(from, packet, out);
        self.flush(out);
    }

    /// The link to `with` was lost, and with it perhaps packets. The next Send effects reach it.
    pub fn reconnected(&mut self, with: MemberId, out: &mut Vec<Effect>) {
        if self.right == Some(with) && !self.breaks(Mutant::NoResend) {
            self.relink = true;
        }
        self.flush(out);
    }

    /// All of `publisher` up to `number`, which must be here, is as durable as it must be.
    pub fn stored(&mut self, publisher: MemberId, number: u64, out: &mut Vec<Effect>) {
        // The dead are forgotten at some time, and who has stopped knows nobody.
        if let Some(publisher) = self.publishers.get_mut(&publisher) {
            assert!(
                number <= publisher.received(),
                "only what is here can be stored"
            );
            publisher.stored = publisher.stored.max(number);
            self.settle_own(out);
            self.advance(out);
            self.flush(out);
        }
    }

    /// How many own broadcasts all members of the view have stored.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.publishers.get(&self.me).map_or(0, |own| own.settled)
    }

    /// Whether the left neighbour has not been heard yet: what it sent before there was anybody to hear
    /// it has to be asked for.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.left.is_some() && self.expected.is_none()
    }

    /// Whether nothing more can come of those that have left: what they left is the same for all, and here.
    #[must_use]
    pub fn has_gathered(&self) -> bool {
        self.dead().all(|publisher| publisher.death_told)
    }

    /// Payload bytes that are kept for resending.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.publishers
            .values()
            .map(|publisher| publisher.pending_bytes)
            .sum()
    }

    /// Payload bytes of packets that wait for their view.
    #[must_use]
    pub fn early_bytes(&self) -> usize {
        self.early
            .values()
            .flatten()
            .map(Packet::payload_bytes)
            .sum()
    }

    /// The last number that is here of each publisher, this member and the dead included.
    #[must_use]
    pub fn held(&self) -> Vec<(MemberId, u64)> {
        let publishers = self.publishers.iter();
        publishers
            .map(|(&id, publisher)| (id, publisher.received()))
            .collect()
    }

    /// The neighbour that is listened to, if there is another member.
    #[must_use]
    pub fn left(&self) -> Option<MemberId> {
        self.left
    }

    /// The neighbour that is sent to, if there is another member.
    #[must_use]
    pub fn right(&self) -> Option<MemberId> {
        self.right
    }

    /// The installed view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    fn own(&mut self) -> &mut Publisher {
        self.publishers.entry(self.me).or_default()
    }

    fn stop(&mut self, why: Effect, out: &mut Vec<Effect>) {
        self.stopped = true;
        self.right = None;
        self.left = None;
        self.publishers.clear();
        self.early.clear();
        out.push(why);
    }

    /// Takes its place in a view: neighbours, births, nothing heard yet.
    fn adopt(&mut self, view: View, out: &mut Vec<Effect>) {
        let place = view.members.iter().position(|&member| member == self.me);
        let place = place.expect("a member is in the view that it takes");
        let count = view.members.len();
        let neighbour = |steps: usize| (count > 1).then(|| view.members[(place + steps) % count]);
        let (left, right) = (neighbour(count - 1), neighbour(1));

        // A view that was not seen may have had other neighbours, who have dropped packets.
        let skipped = view.version != self.view.version + 1 && !self.breaks(Mutant::IgnoreSkipped);
        self.relink |= right != self.right || skipped;
        if left != self.left {
            self.expected = None;
        }
        self.left = left;
        self.right = right;

        for &member in &view.members {
            self.publishers.entry(member).or_insert_with(|| {
                if member != self.me {
                    out.push(Effect::Born(member));
                }
                Publisher::default()
            });
        }
        let keeps_marks = self.breaks(Mutant::KeepMarks);
        for (id, publisher) in &mut self.publishers {
            publisher.living = view.members.contains(id);
            publisher.sent_mark = 0;
            if !keeps_marks {
                publisher.left_mark = 0;
            }
        }
        self.phase = Phase::Start;
        self.left_phase = Phase::Start;
        self.sent_phase = Phase::Start;
        self.left_dead = false;
        self.view = view;
    }

    /// Takes what came too early for the views before.
    fn receive_early(&mut self, out: &mut Vec<Effect>) {
        let version = self.view.version;
        for (from, mut packets) in std::mem::take(&mut self.early) {
            let ripe = packets
                .iter()
                .take_while(|packet| packet.version <= version)
                .count();
            for packet in packets.drain(..ripe) {
                self.accept(from, packet, out);
            }
            if !packets.is_empty() && !self.stopped {
                self.early.insert(from, packets);
            }
        }
    }

    /// A packet of this view or an older one.
    fn accept(&mut self, from: MemberId, packet: Packet, out: &mut Vec<Effect>) {
        if self.left != Some(from) && !self.breaks(Mutant::AnyNeighbour) {
            return;
        }
        let follows = self.expected == Some(packet.number) || self.breaks(Mutant::IgnoreLoss);
        if !packet.whole && !follows {
            // One before it is lost; a whole one will come.
            return;
        }
        self.expected = Some(packet.number + 1);
        let of_this_view = packet.version == self.view.version || self.breaks(Mutant::ForeignMarks);
        for part in packet.parts {
            let id = part.publisher;
            if id == self.me {
                if of_this_view {
                    let own = self.own();
                    own.left_mark = own.left_mark.max(part.mark);
                }
            } else if self.take(part, of_this_view, out).is_err() {
                self.stop(Effect::Diverged, out);
                return;
            }
        }
        if of_this_view {
            self.left_phase = self.left_phase.max(packet.phase);
            self.left_dead |= packet.dead && !self.breaks(Mutant::HeadKnowsAll);
        }
        self.settle_own(out);
        self.advance(out);
    }

    /// What the left neighbour says of another publisher.
    fn take(
        &mut self,
        mut part: Part,
        of_this_view: bool,
        out: &mut Vec<Effect>,
    ) -> Result<(), Divergence> {
        let id = part.publisher;
        let doubles_are_news = self.breaks(Mutant::TakeDoubles);
        let stores_at_once = self.breaks(Mutant::MarkUnstored);
        let publisher = match self.publishers.get_mut(&id) {
            Some(publisher) => publisher,
            // Of somebody who is cleared here and will be at the left.
            None if part.payloads.is_empty() => return Ok(()),
            // Somebody who came and went in views that were not seen here.
            None if self.phase < Phase::Seal => {
                out.push(Effect::Born(id));
                self.publishers.entry(id).or_default()
            }
            None => return Err(Divergence),
        };
        if !part.payloads.is_empty() {
            let next = publisher.received() + 1;
            let doubles = next.checked_sub(part.first).ok_or(Divergence)?;
            let doubles = match doubles_are_news {
                true => 0,
                false => part.payloads.len().min(doubles as usize),
            };
            part.payloads.drain(..doubles);
            if !part.payloads.is_empty() {
                if publisher.death_told {
                    return Err(Divergence);
                }
                publisher.append(&part.payloads);
                if stores_at_once {
                    publisher.stored = publisher.received();
                }
                out.push(Effect::Deliver {
                    publisher: id,
                    first: next,
                    payloads: part.payloads,
                });
            }
        }
        if part.settled > publisher.received() {
            return Err(Divergence);
        }
        if publisher.settle(part.settled) {
            out.push(Effect::Settled {
                publisher: id,
                up_to: part.settled,
            });
        }
        if of_this_view {
            publisher.left_mark = publisher.left_mark.max(part.mark);
        }
        Ok(())
    }

    /// What to tell the right neighbour about the storing of this publisher's.
    fn mark(&self, id: MemberId, publisher: &Publisher) -> u64 {
        publisher.mark(id == self.me, self.left == Some(id))
    }

    /// Reports own broadcasts as complete if the mark has come back.
    fn settle_own(&mut self, out: &mut Vec<Effect>) {
        // Alone, nobody else has to store it.
        let alone = self.left.is_none();
        let hasty = self.breaks(Mutant::CompleteUnstored);
        let Some(own) = self.publishers.get_mut(&self.me) else {
            return;
        };
        let complete = match alone {
            true => own.stored,
            false if hasty => own.left_mark,
            false => own.stored.min(own.left_mark),
        };
        if own.settle(complete) {
            out.push(Effect::Completed { up_to: complete });
        }
    }

    /// Lets the phases go on as far as they can.
    fn advance(&mut self, out: &mut Vec<Effect>) {
        while let Some(next) = self.phase.next() {
            let at_head = self.view.members.first() == Some(&self.me);
            let may = match (at_head, self.left) {
                (true, None) => true,
                (true, _) if next == Phase::Seal && self.breaks(Mutant::SealUngathered) => true,
                // All the way round.
                (true, Some(_)) => self.left_phase >= self.phase,
                (false, _) => self.left_phase >= next,
            };
            let waits = match next {
                // Nobody has anything to do.
                Phase::Seal => at_head && !self.knows_dead(),
                Phase::Store => !self.dead_are_stored() && !self.breaks(Mutant::SettleUnstored),
                Phase::Start | Phase::Gather | Phase::Settle | Phase::Clear => false,
            };
            if waits || !may {
                return;
            }
            self.phase = next;
            match next {
                Phase::Start | Phase::Gather | Phase::Store => (),
                Phase::Seal => self.tell_deaths(out),
                Phase::Settle => self.settle_dead(out),
                Phase::Clear if self.breaks(Mutant::ClearUnsettled) => (),
                Phase::Clear => self.publishers.retain(|_, publisher| publisher.living),
            }
        }
    }

    fn dead(&self) -> impl Iterator<Item = &Publisher> {
        self.publishers
            .values()
            .filter(|publisher| !publisher.living)
    }

    /// Whether there are dead that are not cleared, as far as the phase has come.
    fn knows_dead(&self) -> bool {
        self.left_dead || self.dead().next().is_some()
    }

    fn dead_are_stored(&self) -> bool {
        self.dead()
            .all(|publisher| publisher.stored >= publisher.received())
    }

    fn tell_deaths(&mut self, out: &mut Vec<Effect>) {
        for (&id, publisher) in &mut self.publishers {
            if !publisher.living && !publisher.death_told {
                publisher.death_told = true;
                out.push(Effect::Died(id));
            }
        }
    }

    fn settle_dead(&mut self, out: &mut Vec<Effect>) {
        for (&id, publisher) in self.publishers.iter_mut().filter(|(_, dead)| !dead.living) {
            let up_to = publisher.received();
            if publisher.settle(up_to) {
                out.push(Effect::Settled {
                    publisher: id,
                    up_to,
                });
            }
        }
        if self.breaks(Mutant::ClearUnsettled) {
            self.publishers.retain(|_, publisher| publisher.living);
        }
    }

    /// Sends the right neighbour what it was not told yet, if that is worth a packet.
    fn flush(&mut self, out: &mut Vec<Effect>) {
        let Some(right) = self.right else { return };
        if self.relink && !self.breaks(Mutant::NoCatchup) {
            self.publishers.values_mut().for_each(Publisher::unsend);
        }
        let whole = std::mem::take(&mut self.relink);
        let worth = whole
            || self.phase > self.sent_phase
            || self
                .publishers
                .iter()
                .any(|(&id, publisher)| self.is_worth_sending(id, publisher));
        if !worth {
            return;
        }
        let mut parts = Vec::with_capacity(1);
        for (&id, publisher) in &mut self.publishers {
            let mark = publisher.mark(id == self.me, self.left == Some(id));
            let part = publisher.part(id, mark, id == right);
            if part.settled > 0 || part.mark > 0 || !part.payloads.is_empty() {
                parts.push(part);
            }
        }
        let dead = self.knows_dead();
        self.sent_phase = self.phase;
        self.sent_number += 1;
        let packet = Packet {
            version: self.view.version,
            number: self.sent_number,
            whole,
            phase: self.phase,
            dead,
            parts,
        };
        out.push(Effect::Send { to: right, packet });
    }

    fn is_worth_sending(&self, id: MemberId, publisher: &Publisher) -> bool {
        if self.mark(id, publisher) > publisher.sent_mark {
            return true;
        }
        if self.right == Some(id) {
            return false;
        }
        // What is complete of the own goes with following traffic, unless there is little left
        // that will cause any.
        let unsaid = publisher.settled - publisher.sent_settled;
        let settled = match id == self.me {
            true if self.breaks(Mutant::NeverSettle) => false,
            true => unsaid > 0 && unsaid >= publisher.pending.len() as u64,
            false => unsaid > 0,
        };
        settled || publisher.received() > publisher.sent
    }

    fn breaks(&self, mutant: Mutant) -> bool {
        #[cfg(test)]
        return self.mutant == Some(mutant);
        #[cfg(not(test))]
        {
            let _ = mutant;
            false
        }
    }
}
