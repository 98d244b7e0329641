-- Conversations. One belongs to a project; nobody outside sees it.
--
-- Locks are taken in this order: a conversation, then the sum of what is kept (see response_sums).
-- Who holds the sum waits for no conversation.

-- name: insert_conversation
-- No row when the tenant has no key: it was deleted.
INSERT INTO anzoth.conversations (
    tenant_id, id, project_id, metadata, knowledge_bases, bytes, expires_at
)
SELECT $1, $2, $3, $4, '{}', $5, now() + make_interval(days => $6)
FROM anzoth.tenant_keys WHERE tenant_id = $1
RETURNING id, metadata, knowledge_bases, last_position, bytes, created_at;

-- name: find_conversation
SELECT id, metadata, knowledge_bases, last_position, bytes, created_at
FROM anzoth.conversations
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND expires_at > now();

-- name: lock_conversation
SELECT id, metadata, knowledge_bases, last_position, bytes, created_at
FROM anzoth.conversations
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND expires_at > now()
FOR UPDATE;

-- name: update_conversation
-- Behind lock_conversation.
UPDATE anzoth.conversations
SET metadata = $3, knowledge_bases = $4, last_position = $5, bytes = $6, changed_at = now(),
    expires_at = now() + make_interval(days => $7)
WHERE tenant_id = $1 AND id = $2;

-- name: delete_conversation
-- Behind lock_conversation.
DELETE FROM anzoth.conversations WHERE tenant_id = $1 AND id = $2;

-- name: insert_conversation_items
-- Behind lock_conversation, as all that changes items.
INSERT INTO anzoth.conversation_items (tenant_id, conversation_id, id, position, content)
SELECT $1, $2, id, $3 + number, content
FROM unnest($4::text[], $5::bytea[]) WITH ORDINALITY AS made (id, content, number);

-- name: empty_conversation_item
UPDATE anzoth.conversation_items SET content = NULL
WHERE tenant_id = $1 AND conversation_id = $2 AND id = $3;

-- name: forget_empty_items
-- Of these ids.
DELETE FROM anzoth.conversation_items
WHERE tenant_id = $1 AND conversation_id = $2 AND id = ANY ($3::text[]) AND content IS NULL
RETURNING id;

-- name: present_conversation_items
-- Which of these there are.
SELECT id FROM anzoth.conversation_items
WHERE tenant_id = $1 AND conversation_id = $2 AND id = ANY ($3::text[]) AND content IS NOT NULL;

-- name: find_conversation_item
-- Behind find_conversation, as all that reads items, and up to the last position that it found: what
-- was added since may be from other knowledge bases. NULL for one that was deleted.
SELECT content FROM anzoth.conversation_items
WHERE tenant_id = $1 AND conversation_id = $2 AND position <= $3 AND id = $4;

-- name: conversation_item_place
-- Also of one that was deleted.
SELECT position FROM anzoth.conversation_items
WHERE tenant_id = $1 AND conversation_id = $2 AND id = $3;

-- name: list_conversation_items_up
SELECT id, content FROM anzoth.conversation_items
WHERE tenant_id = $1 AND conversation_id = $2 AND content IS NOT NULL AND position <= $3
    AND ($4::bigint IS NULL OR position > $4)
    AND ($5::bigint IS NULL OR position < $5)
ORDER BY position
LIMIT $6;

-- name: list_conversation_items_down
SELECT id, content FROM anzoth.conversation_items
WHERE tenant_id = $1 AND conversation_id = $2 AND content IS NOT NULL AND position <= $3
    AND ($4::bigint IS NULL OR position > $4)
    AND ($5::bigint IS NULL OR position < $5)
ORDER BY position DESC
LIMIT $6;

-- name: expire_conversations_of_tenant
UPDATE anzoth.conversations SET expires_at = now() WHERE tenant_id = $1 AND expires_at > now();

-- name: outdated_conversations
-- Reads what the policy shows under app.outdated_responses.
SELECT tenant_id, id FROM anzoth.conversations
WHERE expires_at <= now() ORDER BY expires_at LIMIT $1;

-- name: forget_conversations
DELETE FROM anzoth.conversations
WHERE tenant_id = $1 AND id = ANY ($2::text[]) AND expires_at <= now();
