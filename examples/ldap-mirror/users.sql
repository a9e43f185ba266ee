DROP TABLE IF EXISTS users;
CREATE TABLE users (
    user_id    text PRIMARY KEY,
    name       text NOT NULL,
    email      text,
    phones     text[],
    changed_at timestamptz,
    active     boolean NOT NULL DEFAULT true,
    note       text                                -- ours: the sync leaves it alone
);
