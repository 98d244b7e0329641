-- What chats are answered from: an alias' knowledge bases, and a key's default ones.

ALTER TABLE anzoth.model_aliases ADD COLUMN knowledge_bases text[] NOT NULL DEFAULT '{}';
GRANT UPDATE (knowledge_bases) ON anzoth.model_aliases TO anzoth_app, anzoth_operator;

ALTER TABLE anzoth.api_keys ADD COLUMN default_knowledge_bases text[] NOT NULL DEFAULT '{}';
GRANT UPDATE (default_knowledge_bases) ON anzoth.api_keys TO anzoth_app;

CREATE TRIGGER announce_changed_default_knowledge_bases
    AFTER UPDATE OF default_knowledge_bases ON anzoth.api_keys
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_key_change();
