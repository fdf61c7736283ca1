"""
Name the endpoint of a path, out of a set that no client can make longer.

Metrics are labelled with it, so identifiers are collapsed to ``{id}`` and what
is not in the table is ``other``.  It is knowledge for watching only: nothing
is refused or changed because of it.
"""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"

#: What stands before an endpoint; other servers put more before it (``/openai/v1/``, ``/api/v1/``).
_VERSION: Final = "/v1/"

#: The endpoints of the API, ``*`` standing for an identifier.
_TABLE: Final = """
    chat/completions chat/completions/* chat/completions/*/messages
    completions
    responses responses/* responses/*/cancel responses/*/input_items responses/input_tokens responses/compact
    conversations conversations/* conversations/*/items conversations/*/items/*
    embeddings
    moderations
    models models/*
    audio/speech audio/transcriptions audio/translations audio/voices audio/voices/*
    images/generations images/edits images/variations
    videos videos/* videos/*/content videos/*/remix
    files files/* files/*/content
    uploads uploads/* uploads/*/parts uploads/*/complete uploads/*/cancel
    batches batches/* batches/*/cancel
    realtime realtime/calls realtime/calls/*/accept realtime/calls/*/hangup realtime/calls/*/refer
    realtime/calls/*/reject realtime/client_secrets realtime/sessions realtime/transcription_sessions
    vector_stores vector_stores/* vector_stores/*/search
    vector_stores/*/files vector_stores/*/files/* vector_stores/*/files/*/content
    vector_stores/*/file_batches vector_stores/*/file_batches/* vector_stores/*/file_batches/*/cancel
    vector_stores/*/file_batches/*/files
    containers containers/* containers/*/files containers/*/files/* containers/*/files/*/content
    skills skills/* skills/*/content skills/*/versions skills/*/versions/* skills/*/versions/*/content
    fine_tuning/jobs fine_tuning/jobs/* fine_tuning/jobs/*/cancel fine_tuning/jobs/*/pause
    fine_tuning/jobs/*/resume fine_tuning/jobs/*/events fine_tuning/jobs/*/checkpoints
    fine_tuning/checkpoints/*/permissions fine_tuning/checkpoints/*/permissions/*
    fine_tuning/alpha/graders/run fine_tuning/alpha/graders/validate
    evals evals/* evals/*/runs evals/*/runs/* evals/*/runs/*/output_items evals/*/runs/*/output_items/*
    chatkit/sessions chatkit/sessions/*/cancel chatkit/threads chatkit/threads/* chatkit/threads/*/items
    assistants assistants/*
    threads threads/* threads/runs threads/*/messages threads/*/messages/*
    threads/*/runs threads/*/runs/* threads/*/runs/*/cancel threads/*/runs/*/submit_tool_outputs
    threads/*/runs/*/steps threads/*/runs/*/steps/*
"""

#: Every template, and what it is called.
_NAMES: Final = {template: template.replace("*", "{id}") for template in _TABLE.split()}
#: The paths without an identifier, whole: most requests are found here, in one look.
_WHOLE: Final = {_VERSION + template: name for template, name in _NAMES.items() if "*" not in template}
_WORDS: Final = frozenset(word for template in _NAMES for word in template.split("/") if word != "*")
#: No template has more parts; what has is ``other`` without being cut further.
_DEEPEST: Final = max(template.count("/") for template in _NAMES)

#: All that :func:`endpoint` can return.
ENDPOINTS: Final = frozenset({*_NAMES.values(), OTHER})


def endpoint(path: str) -> str:
    """
    The endpoint that a path (without its query) asks for.

    :returns: one of :data:`ENDPOINTS`, for example ``chat/completions`` or ``files/{id}/content``.
    """
    name = _WHOLE.get(path)
    if name is not None:
        return name
    _, _, asked = path.partition(_VERSION)
    words = asked.split("/", _DEEPEST + 1)
    template = "/".join([word if word in _WORDS or not word else "*" for word in words])
    return _NAMES.get(template, OTHER)
