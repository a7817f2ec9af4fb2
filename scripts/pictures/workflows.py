"""Draws the history of a workflow execution."""

from __future__ import annotations

from typing import Final

from scripts.pictures.canvas import Area, Canvas, Kind

_EVENTS: Final = (
    "WorkflowExecutionStarted",
    "WorkflowTaskStarted",
    "WorkflowTaskCompleted",
    "TimerStarted",
    "TimerFired",
    "WorkflowTaskStarted",
    "WorkflowTaskCompleted",
    "ActivityTaskScheduled",
    "ActivityTaskStarted",
    "ActivityTaskCompleted",
    "WorkflowTaskStarted",
    "WorkflowTaskCompleted",
    "WorkflowExecutionCompleted",
)


def pictures() -> dict[str, Canvas]:
    """The pictures of this module by name."""
    return {"workflow-history": _history()}


def _history() -> Canvas:
    canvas = Canvas(
        960,
        560,
        "A workflow's history",
        "Thirteen events of one execution in etcd, in three transactions. Worker A records the "
        "start and a timer, and dies. Worker B takes the shard over, reads the history, replays "
        "the code up to the timer, continues when the timer fires, runs an activity and completes "
        "the execution.",
    )
    canvas.frame(Area(330, 20, 320, 524), "history in etcd", "store")
    for number, name in enumerate(_EVENTS):
        y = 50 + number * 37
        kind: Kind = "good" if name.startswith(("Activity", "Timer")) else "store"
        canvas.box(Area(380, y, 250, 28), (f"`{name}`",), kind)
        canvas.text(370, y + 18, str(number + 1), "small", "end")
    transactions = ((50, 189), (198, 337), (346, 522))
    for top, bottom in transactions:
        canvas.arrow([(346, top), (340, top), (340, bottom), (346, bottom)], headless=True)
    canvas.box(
        Area(30, 84, 230, 70),
        ("worker A", "runs the code: it starts a timer", "and waits; one transaction"),
    )
    canvas.arrow([(260, 119), (336, 119)])
    canvas.step(30, 84, 1)
    canvas.box(Area(30, 196, 230, 46), ("worker A dies", "its lease ends after 3 s"), "warm")
    canvas.step(30, 196, 2)
    canvas.arrow([(145, 154), (145, 192)])
    canvas.box(
        Area(700, 84, 236, 88),
        (
            "worker B takes the shard over",
            "reads events 1 to 4 and replays",
            "the code. The history has its timer,",
            "so no second timer is started",
        ),
    )
    canvas.step(700, 84, 3)
    canvas.arrow([(654, 119), (696, 119)])
    canvas.box(
        Area(700, 236, 236, 70),
        ("the timer fires", "the code continues after await", "and schedules an activity"),
    )
    canvas.step(700, 236, 4)
    canvas.arrow([(818, 172), (818, 232)])
    canvas.arrow([(700, 271), (654, 271)])
    canvas.box(
        Area(700, 396, 236, 70),
        ("the activity has a result", "the code returns; the execution", "is completed"),
    )
    canvas.step(700, 396, 5)
    canvas.arrow([(818, 306), (818, 392)])
    canvas.arrow([(700, 431), (654, 431)])
    canvas.text(30, 470, "Workflow code never acts by itself: it", "small")
    canvas.text(30, 487, "requests timers and activities, and each", "small")
    canvas.text(30, 504, "request is recorded as an event.", "small")
    return canvas
