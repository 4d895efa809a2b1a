//! Runtime values → Runtime (RTDS).
//!
//! A `Struct` is a proto map, which `envoy-types` keeps in random order. These are the same messages with sorted maps:
//! field numbers as in `google/protobuf/struct.proto` and `envoy/service/runtime/v3/rtds.proto`.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::runtime::v3::Runtime as EnvoyRuntime;
use prost::{Message, Name as _, Oneof};

use super::Resource;
use crate::gateway::model::{Runtime, RuntimeValue};
use crate::gateway::scalar::Duration;

/// The resource that `rtds_layer` in the bootstraps of `envoy-configs/` names.
const LAYER: &str = "tollgate";

#[derive(Clone, PartialEq, Message)]
pub(super) struct Layer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    layer: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "2, 3, 4, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Flag(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
}

/// The layer of a group. There is one also without any value, which never expires: Envoys wait for it before they start.
pub(super) fn layer(runtime: &Runtime, ttl: Option<Duration>) -> Resource {
    let ttl = ttl.filter(|_| !runtime.is_empty()).map(Duration::get);
    let fields = runtime.iter().map(|(key, value)| (key.clone(), self::value(value))).collect();
    let layer = Layer { name: LAYER.into(), layer: Some(Struct { fields }) };
    Resource { type_url: EnvoyRuntime::type_url(), name: LAYER.into(), body: layer.encode_to_vec(), ttl }
}

fn value(value: &RuntimeValue) -> Value {
    let kind = match value {
        RuntimeValue::Flag(flag) => Kind::Flag(*flag),
        RuntimeValue::Number(number) => Kind::Number(*number),
        RuntimeValue::Text(text) => Kind::Text(text.clone()),
        RuntimeValue::Percent(percent) => {
            let (numerator, denominator) = (f64::from(percent.numerator), percent.denominator.as_str());
            let fields =
                [("numerator", Kind::Number(numerator)), ("denominator", Kind::Text(denominator.into()))];
            let fields = fields.map(|(name, kind)| (name.to_owned(), Value { kind: Some(kind) }));
            Kind::Struct(Struct { fields: fields.into() })
        }
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::value::Kind as EnvoyKind;

    use super::*;
    use crate::gateway::model::{Denominator, FractionalPercent};

    #[test]
    fn envoy_reads_what_was_written_and_equal_values_are_equal_bytes() {
        let percent = FractionalPercent { numerator: 5, denominator: Denominator::TenThousand };
        let values = [
            ("flag", RuntimeValue::Flag(false)),
            ("number", RuntimeValue::Number(-1.5)),
            ("text", RuntimeValue::Text("t".into())),
            ("percent", RuntimeValue::Percent(percent)),
        ];
        let runtime: Runtime = values.map(|(key, value)| (key.to_owned(), value)).into();
        let resource = layer(&runtime, None);
        let read = EnvoyRuntime::decode(&*resource.body).unwrap();
        assert_eq!(read.name, resource.name);
        let fields = read.layer.unwrap().fields;
        assert_eq!(fields.len(), 4);
        let kind = |key: &str| fields[key].kind.clone().unwrap();
        assert_eq!(kind("flag"), EnvoyKind::BoolValue(false));
        assert_eq!(kind("number"), EnvoyKind::NumberValue(-1.5));
        assert_eq!(kind("text"), EnvoyKind::StringValue("t".into()));
        let EnvoyKind::StructValue(percent) = kind("percent") else { panic!("no struct") };
        assert_eq!(percent.fields["numerator"].kind, Some(EnvoyKind::NumberValue(5.0)));
        assert_eq!(percent.fields["denominator"].kind, Some(EnvoyKind::StringValue("TEN_THOUSAND".into())));
        for _ in 0..32 {
            assert_eq!(layer(&runtime.clone().into_iter().rev().collect(), None), resource);
        }
    }
}
