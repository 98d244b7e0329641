-- A deleted tenant keeps its row, its revoked keys and its usage; nothing of it is served any more.

ALTER TABLE anzoth.tenants ADD COLUMN deleted_at timestamptz;

-- A gateway that was away when a tenant was deleted must still learn of it. It sees deleted tenants
-- where it asks for them, and never inside another tenant's transaction.
CREATE POLICY deleted ON anzoth.tenants FOR SELECT TO anzoth_app
    USING (deleted_at IS NOT NULL AND current_setting('app.deleted_tenants', true) = 'on');

CREATE FUNCTION anzoth.announce_deleted_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_tenants', NEW.id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_deleted_tenant AFTER UPDATE OF deleted_at ON anzoth.tenants
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_deleted_tenant();
