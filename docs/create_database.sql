-- The role and the database of Alexandria. The superuser runs this once, with psql:
--     POSTGRES_PASSWORD=… psql --file=docs/create_database.sql
-- The role owns its database and is no superuser: who has its password can read no file of the server, and run no
-- program there.
\set ON_ERROR_STOP on
\getenv password POSTGRES_PASSWORD
CREATE ROLE alexandria LOGIN PASSWORD :'password';
CREATE DATABASE alexandria OWNER alexandria;
REVOKE ALL ON DATABASE alexandria FROM PUBLIC;
