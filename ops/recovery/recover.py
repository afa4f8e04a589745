"""The recovery of one stack, step by step. Each step can be done again: a recovery that was killed is followed by another."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.pulumi_command import PulumiError
from ops.recovery import identifiers, orphans, state
from ops.recovery.locks import Lock, is_left_over
from ops.recovery.pulumi_stack import Locked, PulumiStack

#: What a provider says of something that is not there: Google's API by the bridged importers, or the API server.
_NOT_THERE = re.compile(r"Error 404|\bnotFound\b|\bnot found\b|does not exist", re.IGNORECASE)

_DELETION_SECONDS = 300.0
_DELETION_PAUSE = 2.0


class Refused(Exception):
    """Nothing was changed; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was found and done; resources as pulumi's screen calls them."""

    #: Locks that were taken away.
    locks: list[str] = field(default_factory=list)
    #: Files of the backend that were half written.
    mended: int = 0
    #: Plugins that were ended.
    orphans: list[str] = field(default_factory=list)
    #: Made by the killed update: name -> id. The state has them now.
    imported: dict[str, str] = field(default_factory=dict)
    #: Begun by the killed update, and the next one makes them: name -> why.
    dropped: dict[str, str] = field(default_factory=dict)
    #: Deleted by the killed update, and gone.
    gone: list[str] = field(default_factory=list)
    #: Only a person can say: URN -> why.
    undecided: dict[str, str] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        return any((self.mended, self.locks, self.orphans, self.imported, self.dropped, self.gone, self.undecided))

    def text(self, stack: str) -> str:
        """What was done, and what to do next."""
        if not self.anything:
            return f"stack {stack}: no update was killed; its state is refreshed"
        lines = [f"took away the lock of {each}" for each in self.locks]
        if self.mended:
            lines.append("made the backend readable again, which the kill had left half written")
        lines += [f"ended {each}" for each in self.orphans]
        lines += [f"is there, and in the state now: {name}, {id}" for name, id in self.imported.items()]
        lines += [f"is not in the state: {name} {why}" for name, why in self.dropped.items()]
        lines += [f"is deleted: {name}" for name in self.gone]
        for urn, why in self.undecided.items():
            lines.append(
                f"cannot be decided here: {urn}: {why}. Look whether it is there, then: python -m ops recovery --stack {stack} "
                f"--id '{urn}=ID' (its import id; nothing behind = if it was not made)"
            )
        if not self.undecided:
            lines.append(f"stack {stack}: recovered; go on with what was killed (`pulumi up` or `pulumi destroy`)")
        return "\n".join(lines)


def recover(
    stack: PulumiStack,
    *,
    listing: state.Listing,
    say: Callable[[str], None],
    take_lock: bool = False,
    given: Mapping[str, str] | None = None,
    left_over: Callable[[Lock], bool] = is_left_over,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Brings the stack to where a plain `pulumi up` or `pulumi destroy` goes on.

    `take_lock`: the caller knows that no update runs, whatever can be known from here. `given`: ids by URN that only a
    person knows. Raises `Refused` and `PulumiError`; the state is then what it was.
    """
    mended = stack.mend_backend()
    # Read again below, once nothing else can change it; this one knows which deletions were under way.
    begun = state.operations(stack.export())
    say("reading what is there (pulumi refresh)")
    locks, ended, failed = _refresh(stack, say=say, take_lock=take_lock, left_over=left_over)
    while failed:
        # A recovery that was killed itself has left entries of what it was looking for.
        document = stack.export()
        missing = _not_there(failed, [each["urn"] for each in state.resources(document) if not each.get("outputs")])
        if len(missing) < len(failed):
            raise PulumiError(_list("`pulumi refresh` could not read", failed))
        stack.replace(state.without(document, missing))
        failed = stack.refresh()
    stack.remove_leftovers()
    document = stack.export()
    # There are two entries of a resource that is being replaced.
    known = {each["urn"]: each for each in state.resources(document) if not each.get("delete")}
    plan = state.plan(document, listing, given or {})
    unsettled = [
        each.urn
        for each in begun
        if each.kind in ("updating", "deleting")
        and each.type_token in identifiers.WAITED_FOR
        and known.get(each.urn, {}).get("id") == each.resource.get("id")
    ]
    pending = {each.urn: each for each in state.operations(document)}
    if pending or unsettled:
        before = {urn: known[urn]["inputs"] for urn in unsettled} | {
            urn: pending[urn].resource.get("inputs") or {} for urn in plan.look_for
        }
        _import(stack, document, plan, unsettled, before, say)
    deleting = [each.urn for each in begun if each.kind == "deleting"]
    _wait_for_deletions(stack, deleting, say, sleep)
    after = stack.export()
    now = {each["urn"]: each for each in state.resources(after) if not each.get("delete")}
    name = {each.urn: each.name for each in [*begun, *pending.values()]}
    not_made = state.not_made(after, plan, document)
    return Outcome(
        mended=mended,
        locks=[str(each) for each in locks],
        orphans=ended,
        imported={name[urn]: now[urn]["id"] for urn in plan.look_for if urn not in not_made},
        dropped={name[urn]: why for urn, why in plan.drop.items()} | {name[urn]: "was not made" for urn in not_made},
        gone=[name[urn] for urn in deleting if urn not in now],
        undecided=dict(plan.undecided),
    )


def _refresh(
    stack: PulumiStack, *, say: Callable[[str], None], take_lock: bool, left_over: Callable[[Lock], bool]
) -> tuple[list[Lock], list[str], dict[str, str]]:
    """The first command that needs the lock, and so the one that is told of another."""
    try:
        return [], _end_orphans(say), stack.refresh()
    except Locked as locked:
        running = [each for each in locked.locks if not left_over(each)]
        if running and not take_lock:
            raise Refused(
                f"stack {stack.name} is locked by {'; '.join(map(str, running))}. Nothing was changed. If that update still runs, "
                "wait for it, or end it with Ctrl-C, after which it ends in order. If you know that it does not (a job that was "
                f"cancelled, a machine that is gone): python -m ops recovery --stack {stack.name} --take-lock"
            ) from locked
        ended = _end_orphans(say)
        say(f"taking away the lock of {'; '.join(map(str, locked.locks))} (pulumi cancel)")
        stack.cancel()
        return locked.locks, ended, stack.refresh()


def _end_orphans(say: Callable[[str], None]) -> list[str]:
    found = orphans.find()
    if found:
        say(f"ending {', '.join(map(str, found))}, whose pulumi is gone")
        orphans.end(found)
    return [str(each) for each in found]


def _import(
    stack: PulumiStack,
    document: dict[str, Any],
    plan: state.Plan,
    unsettled: list[str],
    before: Mapping[str, Mapping[str, Any]],
    say: Callable[[str], None],
) -> None:
    """Puts what is in the cloud into the state. At the first thing that goes wrong, the state is made what it was."""
    wanted = [*plan.look_for, *unsettled]
    changed = state.to_import(document, plan, unsettled)
    stack.replace(changed)
    try:
        if wanted:
            say(f"looking for {len(wanted)} of which the update had not heard yet; waits for those that are on their way")
        while wanted:
            failed = stack.refresh(wanted)
            if not failed:
                break
            missing = _not_there(failed, wanted)
            if len(missing) < len(failed):
                raise PulumiError(_list("the provider could not say what is there", failed))
            changed = state.without(changed, missing)
            stack.replace(changed)
            wanted = [urn for urn in wanted if urn not in missing]
        found = stack.export()
        completed = state.with_provider_s_own(state.without_successors(found, plan, document), before)
        if completed != found:
            stack.replace(completed)
    except BaseException:
        # Half an entry would be taken for a resource.
        stack.replace(document)
        raise


def _not_there(failed: Mapping[str, str], looked_for: Sequence[str]) -> list[str]:
    return [urn for urn, why in failed.items() if urn in looked_for and _NOT_THERE.search(why)]


def _wait_for_deletions(stack: PulumiStack, urns: list[str], say: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    """Kubernetes takes an object away when what it runs has ended; until then it is there."""
    waited = 0.0
    while (left := state.being_deleted(stack.export(), urns) if urns else []) and waited < _DELETION_SECONDS:
        if not waited:
            say(f"waiting until {len(left)} objects are gone whose deletion has begun")
        sleep(_DELETION_PAUSE)
        waited += _DELETION_PAUSE
        stack.refresh(left)


def _list(what: str, failed: Mapping[str, str]) -> str:
    return "\n".join([f"{what}:", *(f"  {urn}: {why}" for urn, why in failed.items())])
