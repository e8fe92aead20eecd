-- Run once, on an empty data folder. The service's role owns its database and is no superuser: row-level security would
-- not hold one back. The superuser is left without a password: `docker compose exec postgres psql -U postgres`.
\getenv password POSTGRES_PASSWORD
CREATE ROLE lookalike LOGIN PASSWORD :'password';
CREATE DATABASE lookalike OWNER lookalike;
ALTER ROLE CURRENT_USER PASSWORD NULL;
