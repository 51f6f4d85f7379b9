#!/usr/bin/env bash
# Run once, when the data folder is new: creates a database for each service, owned by a role without access to others.
set -euo pipefail

create_database() {
    local name=$1 password=$2
    psql --set=ON_ERROR_STOP=1 --set=name="$name" --set=password="$password" \
        --username "${POSTGRES_USER:-postgres}" --dbname postgres --quiet <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

create_database prefect "${PREFECT_DB_PASSWORD:?}"
create_database mlflow "${MLFLOW_DB_PASSWORD:?}"
create_database optuna "${OPTUNA_DB_PASSWORD:?}"
