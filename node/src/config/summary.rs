//! What a good configuration comes to, for whoever checks one before it is used.

use std::fmt::Write;

use super::{RegionEntry, RegistryKind, Resolved, date};

impl Resolved {
    /// A line that says that it is good, and a few that say what a node does with it.
    #[must_use]
    pub fn summary(&self) -> String {
        let config = &self.config;
        let keys = config.keys.iter().count();
        let plural = if keys == 1 { "" } else { "s" };
        let mut text = format!("good: region {}, {keys} key{plural} for tokens\n", config.region.name);
        // Writing to memory does not fail.
        let mut line = |what: &str, value: String| _ = writeln!(text, "  {what}: {value}");
        let plain = config.listen.iter().map(|address| format!("{address} in plain text"));
        let tls = config.tls.iter().flat_map(|tls| &tls.listen).map(|address| format!("{address} in TLS"));
        line("listens on", tls.chain(plain).collect::<Vec<_>>().join(", "));
        for certificate in config.tls.iter().flat_map(|tls| tls.certificates.iter()) {
            let names = certificate.names.join(", ");
            line("certificate", format!("{names}, until {}", date(certificate.not_after)));
        }
        line("connections", format!("at most {}", config.max_connections));
        let limits = config.policy.default_limits;
        let app = format!(
            "{} connections, {} documents, {} users a document, {} operations a minute",
            limits.max_connections, limits.max_documents, limits.max_users_per_doc, limits.ops_per_minute
        );
        line("an app whose tokens do not say", app);
        line("license regions", config.known_db_codes.join(", "));
        if let RegistryKind::Redis(licenses) = &config.cluster.registry {
            let all = licenses.iter().map(|license| format!("{} at {}", license.code, license.url));
            line("node", format!("{}, lease {:?}", config.cluster.node, config.cluster.lease));
            line("registries", all.collect::<Vec<_>>().join(", "));
        }
        if let Some(session) = &config.cluster.session {
            line("sessions", session.shown());
        }
        if !config.regions.is_empty() {
            let region = |region: &RegionEntry| format!("{} ({})", region.name, region.status.word());
            line("regions", config.regions.iter().map(region).collect::<Vec<_>>().join(", "));
        }
        text
    }
}
