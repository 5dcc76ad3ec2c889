# workerd with one Durable Object class whose SQLite files lie in the directory "disk".
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .rig),
    (name = "disk", disk = (path = "/nowhere", writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);

const rig :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "worker.js")],
  compatibilityDate = "2026-10-01",
  bindings = [(name = "RIG", durableObjectNamespace = "Rig")],
  durableObjectNamespaces = [(className = "Rig", uniqueKey = "rig", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),
);
