# Every recipe is one command that works without just as well.

# List the recipes
default:
    @just --list

# Watch agents work, without a key and without cost
demo *args:
    cargo run --release -- demo {{args}}

# Run all tests
test:
    cargo test --workspace

# Simulate rigs, towns and containers on the real durable host: just simulate 20000
simulate seeds="5000":
    cargo run --release --example simulate -- --seeds {{seeds}}

# The same for a whole night, with seeds that no other night has had
simulate-nightly seeds="200000":
    cargo run --release --example simulate -- --seeds {{seeds}} --seed $(($(date +%j) * {{seeds}})) --json

# Simulate a rig with other or more seeds: just sim 20000
sim seeds="20000":
    WELLHEAD_SEEDS={{seeds}} cargo test --release -p wellhead-rig --test simulation -- --nocapture

# Replay one seed of the simulation with a trace
replay seed:
    WELLHEAD_SEED={{seed}} cargo test -p wellhead-rig --test simulation -- --nocapture

# The whole object host under seeded faults, in virtual time
simulate-durable seeds="5000":
    WELLHEAD_SEEDS={{seeds}} cargo test --release -p wellhead-durable --test simulation -- --nocapture

# Cut the power under a writing store, 100 times (needs root and loop devices)
power-loss:
    cargo test -p wellhead-durable --test power_loss -- --ignored --nocapture --test-threads=1

# Kill a writing store, 300 times
kill-trials:
    WELLHEAD_TRIALS=300 cargo test -p wellhead-durable --test kill -- --nocapture

# Measure the object host: store, alarms, history, and the race against workerd and Restate
bench-durable:
    cargo bench -p wellhead-durable --bench store
    cargo bench -p wellhead-durable --bench alarms
    cargo bench --bench history
    cargo bench --bench peers

# Format the code
fmt:
    cargo fmt --all

# Show every lint as an error
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Build the API documents
docs:
    cargo doc --workspace --no-deps --open

# Check dependencies against the advisory database (needs the network)
audit:
    cargo deny check

# Everything that CI checks
ci:
    .ci/run
