"""What `gateway.yaml` means: its text -> the policy to serve, or every problem with it and its place.

The way of a file: `text` reads it into a `tree`, `draft` takes from that whatever can be read, `document` holds all of
it to its shape and its sections to each other, `policy` is the frozen result; `compile` walks that way, `promises` are
what the file says about itself. A section of the file is one file in `sections`. Nothing here waits, serves, or reads
the disk: `following/source` does, and brings what `files_named` asks for.
"""

from __future__ import annotations

from scopegate.policy.compile import Review, compile_policy, files_named, secrets_named
from scopegate.policy.draft import Draft, draft_of
from scopegate.policy.policy import Policy

__all__ = ["Draft", "Policy", "Review", "compile_policy", "draft_of", "files_named", "secrets_named"]
