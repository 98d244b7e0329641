"""Which URLs are there, and what does each require?

One line per endpoint: nothing is reachable that is not in this table, and everything in it needs a
key with the named scope unless its scope is None or ANY_KEY, or a user's session where it says so.
A feature enters as a new file and a line here.

Does not know: how a request is answered.
"""

from __future__ import annotations

from anzoth.api import (
    audit_logs,
    auth,
    batches,
    chat,
    completions,
    conversations,
    embeddings,
    explanation,
    files,
    health,
    mcp_server,
    model_aliases,
    models,
    organization_api_keys,
    organization_invites,
    organization_projects,
    organization_rate_limits,
    organization_service_accounts,
    organization_users,
    rerank,
    responses,
    single_sign_on,
    tool_servers,
    uploads,
    usage,
    vector_store_batches,
    vector_store_files,
    vector_store_search,
    vector_stores,
)
from anzoth.api.call import ANY_KEY, Route

V1 = "/v1"
RESPONSES = V1 + "/responses"
RESPONSE = RESPONSES + "/{response_id}"
CONVERSATIONS = V1 + "/conversations"
CONVERSATION = CONVERSATIONS + "/{conversation_id}"
CONVERSATION_ITEMS = CONVERSATION + "/items"
CONVERSATION_ITEM = CONVERSATION_ITEMS + "/{item_id}"
FILES = V1 + "/files"
UPLOADS = V1 + "/uploads"
STORES = V1 + "/vector_stores"
STORE = STORES + "/{vector_store_id}"
STORE_FILES = STORE + "/files"
STORE_FILE = STORE_FILES + "/{file_id}"
TOOL_SERVERS = V1 + "/tool_servers"
TOOL_SERVER = TOOL_SERVERS + "/{tool_server_id}"
STORE_BATCHES = STORE + "/file_batches"
STORE_BATCH = STORE_BATCHES + "/{batch_id}"
BATCHES = V1 + "/batches"
BATCH = BATCHES + "/{id}"
AUTH = V1 + "/auth"
USERS = V1 + "/organization/users"
ALIASES = V1 + "/organization/model_aliases"
INVITES = V1 + "/organization/invites"
PROJECTS = V1 + "/organization/projects"
PROJECT = PROJECTS + "/{project_id}"
PROJECT_USERS = PROJECT + "/users"
KEYS = PROJECT + "/api_keys"
ACCOUNTS = PROJECT + "/service_accounts"
RATE_LIMITS = PROJECT + "/rate_limits"
ADMIN_KEYS = V1 + "/organization/admin_api_keys"

ROUTES: tuple[Route, ...] = (
    Route("GET", V1 + "/models", "models:read", models.list_all),
    Route("GET", V1 + "/models/{id:path}", "models:read", models.retrieve),
    Route("POST", V1 + "/chat/completions", "chat", chat.create, takes_body=True, inference=True),
    Route("POST", RESPONSES, "chat", responses.create, takes_body=True, inference=True),
    Route("POST", RESPONSES + "/input_tokens", "chat", responses.count_input, takes_body=True),
    Route("GET", RESPONSE, "chat", responses.retrieve),
    Route("DELETE", RESPONSE, "chat", responses.delete),
    Route("POST", RESPONSE + "/cancel", "chat", responses.cancel),
    Route("GET", RESPONSE + "/input_items", "chat", responses.list_input_items),
    Route("POST", CONVERSATIONS, "chat", conversations.create, takes_body=True),
    Route("GET", CONVERSATION, "chat", conversations.retrieve),
    Route("POST", CONVERSATION, "chat", conversations.modify, takes_body=True),
    Route("DELETE", CONVERSATION, "chat", conversations.delete),
    Route("POST", CONVERSATION_ITEMS, "chat", conversations.add_items, takes_body=True),
    Route("GET", CONVERSATION_ITEMS, "chat", conversations.list_items),
    Route("GET", CONVERSATION_ITEM, "chat", conversations.retrieve_item),
    Route("DELETE", CONVERSATION_ITEM, "chat", conversations.delete_item),
    Route(
        "POST",
        V1 + "/completions",
        "completions",
        completions.create,
        takes_body=True,
        inference=True,
    ),
    Route(
        "POST", V1 + "/embeddings", "embeddings", embeddings.create, takes_body=True, inference=True
    ),
    Route("POST", V1 + "/rerank", "rerank", rerank.create, takes_body=True, inference=True),
    Route("POST", FILES, "files:write", files.create),
    Route("GET", FILES, "files:read", files.list_all),
    Route("GET", FILES + "/{file_id}", "files:read", files.retrieve),
    Route("DELETE", FILES + "/{file_id}", "files:write", files.delete),
    Route("GET", FILES + "/{file_id}/content", "files:read", files.content),
    Route(
        "POST",
        STORE + "/search",
        "vector_stores:search",
        vector_store_search.search,
        takes_body=True,
        inference=True,
    ),
    Route(
        "POST",
        "/mcp",
        "vector_stores:search",
        mcp_server.answer,
        takes_body=True,
        inference=True,
        max_body_bytes=mcp_server.MAX_BODY_BYTES,
        render_error=mcp_server.render_error,
    ),
    Route("POST", UPLOADS, "files:write", uploads.create, takes_body=True),
    Route("POST", UPLOADS + "/{upload_id}/parts", "files:write", uploads.add_part),
    Route(
        "POST", UPLOADS + "/{upload_id}/complete", "files:write", uploads.complete, takes_body=True
    ),
    Route("POST", UPLOADS + "/{upload_id}/cancel", "files:write", uploads.cancel),
    Route("GET", STORES, "vector_stores:read", vector_stores.list_all),
    Route("POST", STORES, "vector_stores:write", vector_stores.create, takes_body=True),
    Route("GET", STORE, "vector_stores:read", vector_stores.retrieve),
    Route("POST", STORE, "vector_stores:write", vector_stores.modify, takes_body=True),
    Route("DELETE", STORE, "vector_stores:write", vector_stores.delete),
    Route("GET", STORE_FILES, "vector_stores:read", vector_store_files.list_all),
    Route("POST", STORE_FILES, "vector_stores:write", vector_store_files.create, takes_body=True),
    Route("GET", STORE_FILE, "vector_stores:read", vector_store_files.retrieve),
    Route("POST", STORE_FILE, "vector_stores:write", vector_store_files.modify, takes_body=True),
    Route("DELETE", STORE_FILE, "vector_stores:write", vector_store_files.delete),
    Route("GET", STORE_FILE + "/content", "vector_stores:read", vector_store_files.content),
    Route(
        "POST", STORE_BATCHES, "vector_stores:write", vector_store_batches.create, takes_body=True
    ),
    Route("GET", STORE_BATCH, "vector_stores:read", vector_store_batches.retrieve),
    Route("GET", STORE_BATCH + "/files", "vector_stores:read", vector_store_batches.list_files),
    Route("POST", STORE_BATCH + "/cancel", "vector_stores:write", vector_store_batches.cancel),
    Route("GET", BATCHES, "batches:read", batches.list_all),
    Route("POST", BATCHES, "batches:write", batches.create, takes_body=True),
    Route("GET", BATCH, "batches:read", batches.retrieve),
    Route("POST", BATCH + "/cancel", "batches:write", batches.cancel),
    Route("GET", V1 + "/organization/audit_logs", "audit:read", audit_logs.list_all),
    Route("POST", AUTH + "/bootstrap", None, auth.bootstrap, takes_body=True),
    Route("POST", AUTH + "/sign-up", None, auth.sign_up, takes_body=True),
    Route("POST", AUTH + "/sign-in", None, auth.sign_in, takes_body=True),
    Route("POST", AUTH + "/second-factor", None, auth.second_factor, takes_body=True),
    Route("POST", AUTH + "/password/reset", None, auth.reset_password, takes_body=True),
    Route("POST", AUTH + "/invitations/show", None, auth.show_invitation, takes_body=True),
    Route("POST", AUTH + "/invitations/accept", None, auth.accept_invitation, takes_body=True),
    Route("GET", AUTH + "/oidc", None, single_sign_on.list_all),
    Route("GET", AUTH + "/oidc/{provider}", None, single_sign_on.start),
    Route("GET", AUTH + "/oidc/{provider}/callback", None, single_sign_on.callback),
    Route("POST", AUTH + "/sign-out", None, auth.sign_out, session=True),
    Route("GET", AUTH + "/session", None, auth.show_session, session=True),
    Route("POST", AUTH + "/session", None, auth.choose_organization, session=True, takes_body=True),
    Route("GET", AUTH + "/sessions", None, auth.list_sessions, session=True),
    Route("DELETE", AUTH + "/sessions", None, auth.end_other_sessions, session=True),
    Route("DELETE", AUTH + "/sessions/{id}", None, auth.end_session, session=True),
    Route("POST", AUTH + "/password", None, auth.change_password, session=True, takes_body=True),
    Route("POST", AUTH + "/totp", None, auth.enrol_totp, session=True, takes_body=True),
    Route("POST", AUTH + "/totp/confirm", None, auth.confirm_totp, session=True, takes_body=True),
    Route("POST", AUTH + "/totp/disable", None, auth.disable_totp, session=True, takes_body=True),
    Route(
        "POST",
        AUTH + "/recovery-codes",
        None,
        auth.replace_recovery_codes,
        session=True,
        takes_body=True,
    ),
    Route("GET", USERS, "users:read", organization_users.list_all),
    Route("GET", USERS + "/{user_id}", "users:read", organization_users.retrieve),
    Route("POST", USERS + "/{user_id}", "users:write", organization_users.modify, takes_body=True),
    Route("DELETE", USERS + "/{user_id}", "users:write", organization_users.delete),
    Route("GET", INVITES, "users:read", organization_invites.list_all),
    Route("POST", INVITES, "invites:write", organization_invites.create, takes_body=True),
    Route("GET", INVITES + "/{invite_id}", "users:read", organization_invites.retrieve),
    Route("DELETE", INVITES + "/{invite_id}", "invites:write", organization_invites.delete),
    Route("GET", PROJECT_USERS, "users:read", organization_users.list_of_project),
    Route("POST", PROJECT_USERS, "users:write", organization_users.add_to_project, takes_body=True),
    Route(
        "GET",
        PROJECT_USERS + "/{user_id}",
        "users:read",
        organization_users.retrieve_in_project,
    ),
    Route(
        "POST",
        PROJECT_USERS + "/{user_id}",
        "users:write",
        organization_users.modify_in_project,
        takes_body=True,
    ),
    Route(
        "DELETE",
        PROJECT_USERS + "/{user_id}",
        "users:write",
        organization_users.delete_from_project,
    ),
    Route("GET", PROJECTS, "projects:read", organization_projects.list_all),
    Route("POST", PROJECTS, "projects:write", organization_projects.create, takes_body=True),
    Route("GET", PROJECT, "projects:read", organization_projects.retrieve),
    Route("POST", PROJECT, "projects:write", organization_projects.modify, takes_body=True),
    Route("POST", PROJECT + "/archive", "projects:write", organization_projects.archive),
    Route("GET", KEYS, "keys:read", organization_api_keys.list_all),
    Route("POST", KEYS, "keys:write", organization_api_keys.create, takes_body=True),
    Route("GET", KEYS + "/{api_key_id}", "keys:read", organization_api_keys.retrieve),
    Route(
        "POST", KEYS + "/{api_key_id}", "keys:write", organization_api_keys.modify, takes_body=True
    ),
    Route(
        "POST",
        KEYS + "/{api_key_id}/rotate",
        "keys:write",
        organization_api_keys.rotate,
        takes_body=True,
    ),
    Route("DELETE", KEYS + "/{api_key_id}", "keys:write", organization_api_keys.delete),
    Route("GET", ACCOUNTS, "keys:read", organization_service_accounts.list_all),
    Route("POST", ACCOUNTS, "keys:write", organization_service_accounts.create, takes_body=True),
    Route(
        "GET",
        ACCOUNTS + "/{service_account_id}",
        "keys:read",
        organization_service_accounts.retrieve,
    ),
    Route(
        "POST",
        ACCOUNTS + "/{service_account_id}",
        "keys:write",
        organization_service_accounts.modify,
        takes_body=True,
    ),
    Route(
        "DELETE",
        ACCOUNTS + "/{service_account_id}",
        "keys:write",
        organization_service_accounts.delete,
    ),
    Route(
        "POST",
        ACCOUNTS + "/{service_account_id}/api_keys",
        "keys:write",
        organization_service_accounts.create_key,
        takes_body=True,
    ),
    Route("GET", RATE_LIMITS, "projects:read", organization_rate_limits.list_all),
    Route(
        "POST",
        RATE_LIMITS + "/{rate_limit_id:path}",
        "projects:write",
        organization_rate_limits.modify,
        takes_body=True,
    ),
    Route(
        "DELETE",
        RATE_LIMITS + "/{rate_limit_id:path}",
        "projects:write",
        organization_rate_limits.delete,
    ),
    Route("GET", ADMIN_KEYS, "admin", organization_api_keys.list_admin),
    Route("POST", ADMIN_KEYS, "admin", organization_api_keys.create_admin, takes_body=True),
    Route("GET", ADMIN_KEYS + "/{key_id}", "admin", organization_api_keys.retrieve_admin),
    Route("DELETE", ADMIN_KEYS + "/{key_id}", "admin", organization_api_keys.delete_admin),
    Route("GET", V1 + "/organization/usage/{kind}", "usage:read", usage.usage),
    Route("GET", V1 + "/organization/costs", "usage:read", usage.costs),
    Route("GET", V1 + "/usage", ANY_KEY, usage.of_key),
    Route("GET", V1 + "/requests/{id}", ANY_KEY, explanation.retrieve),
    Route("GET", ALIASES, "models:write", model_aliases.list_all),
    Route("POST", ALIASES, "models:write", model_aliases.create, takes_body=True),
    Route("GET", ALIASES + "/{id}", "models:write", model_aliases.retrieve),
    Route("POST", ALIASES + "/{id}", "models:write", model_aliases.update, takes_body=True),
    Route("DELETE", ALIASES + "/{id}", "models:write", model_aliases.delete),
    Route("GET", TOOL_SERVERS, "tools:read", tool_servers.list_all),
    Route("POST", TOOL_SERVERS, "tools:write", tool_servers.create, takes_body=True),
    Route("GET", TOOL_SERVER, "tools:read", tool_servers.retrieve),
    Route("POST", TOOL_SERVER, "tools:write", tool_servers.modify, takes_body=True),
    Route("DELETE", TOOL_SERVER, "tools:write", tool_servers.delete),
    Route("POST", TOOL_SERVER + "/refresh", "tools:write", tool_servers.refresh),
    Route("POST", TOOL_SERVER + "/approve", "tools:write", tool_servers.approve, takes_body=True),
    Route("POST", TOOL_SERVER + "/withdraw", "tools:write", tool_servers.withdraw, takes_body=True),
    Route("GET", "/healthz", None, health.healthz),
    Route("GET", "/readyz", None, health.readyz),
    Route("GET", "/metrics", None, health.metrics),
)


def patterns(route: Route) -> tuple[str, ...]:
    """Where a route is reachable: also without `/v1`, which some clients leave out."""
    if route.pattern.startswith(V1 + "/"):
        return (route.pattern, route.pattern.removeprefix(V1))
    return (route.pattern,)
