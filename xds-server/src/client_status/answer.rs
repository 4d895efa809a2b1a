//! One answer: the wanted proxies and their resources, up to the limits.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::admin::v3::UpdateFailureState;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ClientStatusResponse, ConfigStatus};
use envoy_types::pb::google::protobuf::Any;
use tonic::Status;

use super::AnswerLimits;
use super::node_matcher::NodeMatchers;
use crate::discovery::Registry;
use crate::discovery::registry::Proxy;
use crate::discovery::session::{Held, Session, Standing, TypeStatus};
use crate::proto_time::timestamp;
use crate::snapshot::{Resource, TypeUrl};

/// What a request asks for.
pub(super) struct Asked {
    /// Proxies of this group only.
    pub group: Option<String>,
    pub nodes: NodeMatchers,
    pub with_content: bool,
}

/// An answer in the making, and what room it has left.
pub(super) struct Answer<'a> {
    asked: &'a Asked,
    left: AnswerLimits,
    /// By group and node id: a proxy may have a stream for each type.
    proxies: BTreeMap<(String, String), ClientConfig>,
}

impl Answer<'_> {
    pub fn make(
        registry: &Registry,
        asked: &Asked,
        limits: AnswerLimits,
    ) -> Result<ClientStatusResponse, Status> {
        let mut answer = Answer { asked, left: limits, proxies: BTreeMap::new() };
        let wanted = |proxy: &Proxy| {
            asked.group.as_ref().is_none_or(|group| *group == proxy.group) && asked.nodes.matches(&proxy.id)
        };
        registry.inspect(wanted, |proxy, session| answer.add(proxy, session))?;
        Ok(ClientStatusResponse { config: answer.proxies.into_values().collect() })
    }

    fn add(&mut self, proxy: &Proxy, session: &Session) -> Result<(), Status> {
        // One more thing to list, be it without resources.
        self.take(0)?;
        let mut configs = Vec::new();
        for (type_url, status) in session.status() {
            for held in session.held(type_url) {
                let config = self.config(type_url, status, &held)?;
                configs.push(config);
            }
        }
        let key = (proxy.group.clone(), proxy.id.clone());
        let client = self.proxies.entry(key).or_insert_with(|| ClientConfig {
            node: Some(Node {
                id: proxy.id.clone(),
                cluster: proxy.cluster.clone(),
                user_agent_name: proxy.agent.clone(),
                ..Node::default()
            }),
            ..ClientConfig::default()
        });
        client.generic_xds_configs.append(&mut configs);
        Ok(())
    }

    fn config(
        &mut self,
        type_url: &TypeUrl,
        status: &TypeStatus,
        held: &Held<'_>,
    ) -> Result<GenericXdsConfig, Status> {
        // A secret's content is shown to nobody, not even to who could fetch it.
        let shown = held.resource.filter(|_| self.asked.with_content && *type_url != TypeUrl::SECRET);
        self.take(shown.map_or(0, |resource| resource.sotw_len()))?;
        let content = shown.map(|resource| any(type_url, resource));
        let config_status = match held.standing {
            Standing::Synced => ConfigStatus::Synced,
            Standing::NotSent => ConfigStatus::NotSent,
            Standing::Stale => ConfigStatus::Stale,
            Standing::Refused => ConfigStatus::Error,
        };
        let error_state = status.nack.as_ref().filter(|_| held.standing == Standing::Refused).map(|nack| {
            UpdateFailureState {
                // As `xds_config`, which is the refused one already.
                failed_configuration: None,
                last_update_attempt: Some(timestamp(nack.at)),
                details: nack.message.clone(),
                version_info: held.version.to_string(),
            }
        });
        Ok(GenericXdsConfig {
            type_url: type_url.to_string(),
            name: held.name.to_string(),
            version_info: held.version.to_string(),
            xds_config: content,
            last_updated: held.resource.map(|resource| timestamp(resource.made())),
            config_status: config_status.into(),
            error_state,
            ..GenericXdsConfig::default()
        })
    }

    fn take(&mut self, content_bytes: usize) -> Result<(), Status> {
        let left = self.left.resources.checked_sub(1).zip(self.left.content_bytes.checked_sub(content_bytes));
        let (resources, content_bytes) = left.ok_or_else(|| {
            Status::resource_exhausted(
                "too much for one answer: ask for fewer nodes, or set exclude_resource_contents",
            )
        })?;
        self.left = AnswerLimits { resources, content_bytes };
        Ok(())
    }
}

fn any(type_url: &TypeUrl, resource: &Resource) -> Any {
    Any { type_url: type_url.to_string(), value: resource.body().to_vec() }
}
