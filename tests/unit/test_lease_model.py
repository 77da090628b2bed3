"""The lease model: exclusive means alone, requests are whole, nobody starves, a dirty guest is never leased again."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsklab.errors import LeaseError
from wsklab.pytest_plugin.lease_model import PORTS_PER_LEASE, Grant, LeaseModel

PROFILES = ("a", "b")
#: Shared leases that a guest of the profile carries.
LIMITS = {"a": 2, "b": 1}


def test_shared_leases_share_and_exclusive_ones_do_not() -> None:
    """Two shared leases are out on one guest; an exclusive request waits for both and stops later shared ones."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.request("w1", ["a"], exclusive=False)
    model.request("w2", ["a"], exclusive=False)
    first, second = model.grant()
    alone = model.request("w3", ["a"], exclusive=True)
    late = model.request("w4", ["a"], exclusive=False)
    assert model.grant() == ()
    model.release(first.ticket, dirty=False)
    assert model.grant() == ()
    model.release(second.ticket, dirty=False)
    assert [grant.ticket for grant in model.grant()] == [alone]
    assert model.waiting == (late,)


def test_a_request_for_two_guests_is_granted_whole() -> None:
    """While one of two named profiles is busy nothing is taken, and the other one is not given to later requests."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.add_guest("b1", "b")
    model.request("w1", ["a"], exclusive=True)
    (held,) = model.grant()
    both = model.request("w2", ["a", "b"], exclusive=True)
    model.request("w3", ["b"], exclusive=True)
    assert model.grant() == ()
    model.release(held.ticket, dirty=False)
    (granted,) = model.grant()
    assert granted.ticket == both
    assert granted.guests == ("a1", "b1")


def test_a_dirty_guest_leaves_with_its_last_lease() -> None:
    """One holder of a shared guest returns it dirty: no new lease, and it is replaced when the other one is done."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.request("w1", ["a"], exclusive=False)
    model.request("w2", ["a"], exclusive=False)
    first, second = model.grant()
    assert model.release(first.ticket, dirty=True) == ()
    model.request("w3", ["a"], exclusive=False)
    assert model.grant() == ()
    assert model.release(second.ticket, dirty=False) == ("a1",)


def test_a_dead_owner_returns_its_guest_dirty() -> None:
    """A worker that died leaves a guest in a state that nobody knows."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.request("w1", ["a"], exclusive=True)
    model.grant()
    assert model.drop_owner("w1") == ("a1",)
    assert model.leases == ()


def test_an_owner_holds_one_lease() -> None:
    """Waiting while holding is refused: it could block another owner for ever."""
    model = LeaseModel()
    model.request("w1", ["a"], exclusive=False)
    with pytest.raises(LeaseError, match="second lease"):
        model.request("w1", ["b"], exclusive=False)


def test_affinity() -> None:
    """With two equal guests an owner gets the one whose connection it has."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.add_guest("a2", "a")
    model.request("w1", ["a"], exclusive=False)
    model.request("w2", ["a"], exclusive=False)
    before = {grant.owner: grant for grant in model.grant()}
    for grant in before.values():
        model.release(grant.ticket, dirty=False)
    for owner in ("w2", "w1"):
        model.request(owner, ["a"], exclusive=False)
    assert {grant.owner: grant.guests for grant in model.grant()} == {
        owner: grant.guests for owner, grant in before.items()
    }


def test_affinity_is_revocable() -> None:
    """The guest that an owner knows is taken by others between its items; then the owner gets another one."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.add_guest("a2", "a")
    model.request("w1", ["a"], exclusive=False)
    (first,) = model.grant()
    model.release(first.ticket, dirty=False)
    model.request("w2", ["a"], exclusive=True)
    (other,) = model.grant()
    assert other.guests == first.guests, "nobody has it, and w2 knows none"
    model.request("w1", ["a"], exclusive=False)
    (second,) = model.grant()
    assert second.guests != first.guests


def test_a_set_of_one_profile() -> None:
    """Two guests of a profile in one request are two different guests, and none is taken while there is only one."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.request("w1", ["a", "a"], exclusive=False)
    assert model.grant() == ()
    model.request("w2", ["a"], exclusive=False)
    assert model.grant() == (), "it would overtake the set"
    model.add_guest("a2", "a")
    both, one = model.grant()
    assert set(both.guests) == {"a1", "a2"}
    assert len(one.guests) == 1


def test_a_fresh_guest_is_preferred_and_told() -> None:
    """Who wants a guest that nobody had gets the unused one; when there is none, the grant says so."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.request("w1", ["a"], exclusive=False)
    (first,) = model.grant()
    assert first.used == ()
    model.release(first.ticket, dirty=False)
    model.add_guest("a2", "a")
    model.request("w1", ["a"], exclusive=True, fresh=True)
    (second,) = model.grant()
    assert (second.guests, second.used) == (("a2",), ())
    model.release(second.ticket, dirty=False)
    model.request("w1", ["a"], exclusive=True, fresh=True)
    (third,) = model.grant()
    assert third.used == third.guests


def test_a_guest_is_swapped_under_an_exclusive_lease() -> None:
    """The new guest has the lease, the old one is forgotten; a shared lease takes no other guest."""
    model = LeaseModel()
    model.add_guest("a1", "a")
    model.request("w1", ["a"], exclusive=True)
    (held,) = model.grant()
    model.swap(held.ticket, "a1", "a2")
    assert model.guests("a") == ("a2",)
    assert model.leases[0].guests == ("a2",)
    assert model.release(held.ticket, dirty=False) == ()
    model.request("w1", ["a"], exclusive=False)
    (shared,) = model.grant()
    with pytest.raises(LeaseError, match="cannot take"):
        model.swap(shared.ticket, "a2", "a3")


@dataclass(frozen=True)
class Asked:
    """A request that waits, in order of arrival."""

    ticket: int
    owner: str
    profiles: tuple[str, ...]
    exclusive: bool


class LeaseMachine(RuleBasedStateMachine):
    """Random owners, guests, requests, releases and deaths; the rules hold after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.model = LeaseModel()
        self.profile_of: dict[str, str] = {}
        self.waiting: list[Asked] = []
        self.out: dict[int, Grant] = {}
        self.owners = 0
        self.dirty: set[str] = set()
        #: guests that somebody had; guests that do not exist any more
        self.used: set[str] = set()
        self.gone: set[str] = set()

    @initialize()
    def begin(self) -> None:
        """One guest of each profile."""
        for profile in PROFILES:
            self.add(profile)

    @rule(profile=st.sampled_from(PROFILES))
    def add(self, profile: str) -> None:
        """A guest becomes ready."""
        name = f"{profile}{len(self.profile_of)}"
        self.profile_of[name] = profile
        self.model.add_guest(name, profile, limit=LIMITS[profile])
        self.pump()

    @rule(
        profiles=st.lists(st.sampled_from(PROFILES), min_size=1, max_size=3),
        exclusive=st.booleans(),
        fresh=st.booleans(),
        again=st.integers(min_value=0, max_value=5),
    )
    def ask(self, profiles: list[str], exclusive: bool, fresh: bool, again: int) -> None:
        """An owner asks: one that has been here before and has nothing, or a new one."""
        busy = {grant.owner for grant in self.out.values()} | {asked.owner for asked in self.waiting}
        idle = [owner for number in range(1, self.owners + 1) if (owner := f"w{number}") not in busy]
        if again < len(idle):
            owner = idle[again]
        else:
            self.owners += 1
            owner = f"w{self.owners}"
        ticket = self.model.request(owner, profiles, exclusive=exclusive, fresh=fresh)
        self.waiting.append(Asked(ticket, owner, tuple(profiles), exclusive))
        self.pump()

    @precondition(lambda self: any(grant.exclusive for grant in self.out.values()))
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        """An exclusive lease gets a fresh guest in the place of a used one."""
        alone = sorted(ticket for ticket, grant in self.out.items() if grant.exclusive and grant.guests)
        if not alone:
            return
        ticket = data.draw(st.sampled_from(alone))
        old = data.draw(st.sampled_from(self.out[ticket].guests))
        new = f"{self.profile_of[old]}{len(self.profile_of)}"
        self.profile_of[new] = self.profile_of[old]
        self.model.swap(ticket, old, new)
        self.used.add(new)
        self.gone.add(old)
        self.out[ticket] = next(grant for grant in self.model.leases if grant.ticket == ticket)
        assert new in self.out[ticket].guests
        assert old not in self.out[ticket].guests
        self.pump()

    @precondition(lambda self: len(self.profile_of) > len(self.gone))
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A guest is gone for good, leased or not: its replacement could not be made."""
        name = data.draw(st.sampled_from(sorted(set(self.profile_of) - self.gone)))
        self.model.forget(name)
        self.gone.add(name)
        self.out = {grant.ticket: grant for grant in self.model.leases}
        self.pump()

    @precondition(lambda self: self.out)
    @rule(data=st.data(), dirty=st.booleans(), death=st.booleans())
    def give_back(self, data: st.DataObject, dirty: bool, death: bool) -> None:
        """An owner returns its lease, or dies with it."""
        grant = self.out.pop(data.draw(st.sampled_from(sorted(self.out))))
        assert grant.owner not in {other.owner for other in self.out.values()}
        gone = self.model.drop_owner(grant.owner) if death else self.model.release(grant.ticket, dirty=dirty)
        if dirty or death:
            self.dirty.update(grant.guests)
        assert set(gone) <= self.dirty
        held = {name for other in self.out.values() for name in other.guests}
        assert set(gone) == {name for name in grant.guests if name in self.dirty and name not in held}
        self.gone.update(gone)
        self.pump()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A waiting owner gives up."""
        asked = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(asked)
        self.model.cancel(asked.ticket)
        self.pump()

    def pump(self) -> None:
        """Grant, and check what was granted against the queue."""
        for grant in self.model.grant():
            asked = next(one for one in self.waiting if one.ticket == grant.ticket)
            earlier = self.waiting[: self.waiting.index(asked)]
            assert not any(set(one.profiles) & set(asked.profiles) for one in earlier), "overtaken"
            assert tuple(self.profile_of[name] for name in grant.guests) == asked.profiles, "not what was asked"
            assert len(set(grant.guests)) == len(grant.guests), "one guest twice"
            assert not set(grant.guests) & (self.dirty | self.gone), "a dirty guest was leased"
            assert set(grant.used) == set(grant.guests) & self.used, "not told who had it"
            assert grant.exclusive == asked.exclusive
            self.used.update(grant.guests)
            self.waiting.remove(asked)
            self.out[grant.ticket] = grant

    @invariant()
    def exclusive_is_alone(self) -> None:
        """An exclusive lease shares no guest; a guest carries at most the limit of shared ones."""
        for grant in self.out.values():
            for other in self.out.values():
                if grant is not other and set(grant.guests) & set(other.guests):
                    assert not grant.exclusive
                    assert not other.exclusive
        for name in self.profile_of:
            assert sum(name in grant.guests for grant in self.out.values()) <= LIMITS[self.profile_of[name]]

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """The oldest request for its profiles waits only while too few guests have room for it."""
        blocked: set[str] = set()
        for asked in self.waiting:
            if not blocked & set(asked.profiles):
                free = [self.profile_of[name] for name in self.with_room(asked.exclusive)]
                assert any(free.count(profile) < asked.profiles.count(profile) for profile in asked.profiles)
            blocked.update(asked.profiles)

    def with_room(self, exclusive: bool) -> list[str]:
        """The guests that could take one more lease."""
        found = []
        for name in set(self.profile_of) - self.gone - self.dirty:
            holders = [grant for grant in self.out.values() if name in grant.guests]
            alone = any(grant.exclusive for grant in holders)
            if not alone and len(holders) < (1 if exclusive else LIMITS[self.profile_of[name]]):
                found.append(name)
        return found

    @invariant()
    def ports_and_addresses_are_private(self) -> None:
        """No two leases share a port or a loopback address."""
        firsts = sorted(grant.first_port for grant in self.out.values())
        assert all(right - left >= PORTS_PER_LEASE for left, right in itertools.pairwise(firsts))
        addresses = [grant.loopback for grant in self.out.values()]
        assert len(set(addresses)) == len(addresses)
        assert all(grant.first_port + PORTS_PER_LEASE <= 32768 for grant in self.out.values())

    @invariant()
    def the_model_agrees(self) -> None:
        """What is out and who waits is what the test counted."""
        assert {grant.ticket for grant in self.model.leases} == set(self.out)
        assert list(self.model.waiting) == [asked.ticket for asked in self.waiting]


LeaseMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_lease_machine = LeaseMachine.TestCase
