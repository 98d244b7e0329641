-- Which tools were called for a request? The audit log knows, and is asked by the request's id.

CREATE INDEX tool_calls_of_request ON anzoth.audit_log (chain, request_id)
    WHERE type IN ('tool.called', 'tool.completed', 'tool.refused');
