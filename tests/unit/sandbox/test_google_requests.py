"""Requests to Google's APIs: what is tried again, and with which words it ends, as terraform-provider-google has it."""

import threading
from pathlib import Path

import pytest

from sandbox.google.access_tokens import AccessTokens, Login
from sandbox.google.faults import CLOUD, FaultStore, Rule
from sandbox.google.latencies import Clock
from sandbox.providers.google_requests import GoogleRequests, RequestError

RUNNING = threading.Event()


class World:
    def __init__(self, state: Path) -> None:
        self.faults = FaultStore(state)
        self.tokens = AccessTokens(state)
        self.requests = GoogleRequests(faults=self.faults, tokens=self.tokens, clock=Clock(100_000.0))
        self.made = 0

    def make(self) -> int:
        self.made += 1
        return self.made

    def write(self, *, iam: bool = False, long: bool = False) -> int:
        return self.requests.write("creating Thing", self.make, cancelled=RUNNING, iam=iam, long=long)

    def fault(self, answer: str, *, burst: int, after: int = 0, seconds: float = 0.0) -> None:
        self.faults.set(Rule(api=CLOUD, answer=answer, burst=burst, after=after, seconds=seconds))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("answer", ["429", "500", "503", "dropped"])
def test_what_passes_is_tried_again_and_done_once(world: World, answer: str) -> None:
    world.fault(answer, burst=8)
    assert world.write() == 1
    assert world.made == 1
    assert len(world.faults.given()) == 8


@pytest.mark.parametrize(("answer", "word"), [("503", "googleapi: Error 503"), ("dropped", "connection reset by peer")])
def test_a_fault_that_outlasts_the_provider_s_retries_ends_with_google_s_message(world: World, answer: str, word: str) -> None:
    world.fault(answer, burst=10_000)
    with pytest.raises(RequestError, match=word):
        world.write()
    assert world.made == 0


def test_a_conflict_of_an_iam_policy_is_retried_for_a_limited_time(world: World) -> None:
    world.fault("409", burst=3)
    assert world.write(iam=True) == 1
    world.fault("409", burst=100)
    with pytest.raises(RequestError, match="Too many conflicts"):
        world.write(iam=True)


def test_a_slow_answer_is_waited_for_and_one_that_is_too_slow_asked_for_again(world: World) -> None:
    world.fault("slow", burst=1, seconds=60.0)
    assert world.write() == 1
    world.fault("slow", burst=1, seconds=1000.0)
    assert world.write() == 2


def test_a_change_whose_answer_is_lost_is_made_a_second_time(world: World) -> None:
    world.fault("lost", burst=1)
    assert world.write() == 2


def test_without_a_login_no_request_is_sent_and_the_message_is_google_s(world: World) -> None:
    world.tokens.set_login(Login(revoked=True))
    with pytest.raises(RequestError, match="invalid_grant"):
        world.write()
    with pytest.raises(RequestError, match="invalid_grant"):
        world.requests.access_token(RUNNING)
    assert world.made == 0


def test_a_push_is_tried_again_after_broken_connections_and_errors_of_the_registry(world: World) -> None:
    for answer in ("dropped", "500"):
        world.fault(answer, burst=4)
        world.requests.push("image", None, world.make, cancelled=RUNNING)
    assert world.made == 2


def test_a_push_with_a_token_that_has_ended_says_which_and_how_to_get_another(world: World) -> None:
    good = world.requests.access_token(RUNNING)
    world.requests.push("image", good, world.make, cancelled=RUNNING)
    world.tokens.set_login(Login(lifetime=0.0))
    ended = world.requests.access_token(RUNNING)
    with pytest.raises(RequestError, match="unauthorized"):
        world.requests.push("image", ended, world.make, cancelled=RUNNING)
    assert world.made == 1
