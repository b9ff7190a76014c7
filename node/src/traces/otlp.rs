//! Records as OTLP has them (opentelemetry-proto 1.9), with names of its semantic conventions.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::{Record, What};

/// A request with these records.
pub(super) fn request(records: &[Record], region: &str) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", "pinwire-node"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("pinwire.region", region),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "pinwire".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = records.iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let of_node = ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() };
    ExportTraceServiceRequest { resource_spans: vec![of_node] }
}

fn span(record: &Record) -> Span {
    let end = nanos(record.ended);
    let mut attributes: Vec<KeyValue> =
        record.thread.map(|thread| number("pinwire.thread", thread.into())).into_iter().collect();
    let (name, kind) = match record.what {
        What::Handshake => ("websocket handshake".to_owned(), SpanKind::Server),
        What::Token => ("token".to_owned(), SpanKind::Internal),
        What::DocumentOpen => ("document open".to_owned(), SpanKind::Internal),
        What::Http(method, route, status) => {
            attributes.push(text("http.request.method", method));
            attributes.push(text("http.route", route));
            attributes.push(number("http.response.status_code", status.into()));
            (format!("{method} {route}"), SpanKind::Server)
        }
    };
    let status = (!record.error.is_empty()).then(|| {
        attributes.push(text("error.type", record.error));
        Status { message: record.error.to_owned(), code: StatusCode::Error.into() }
    });
    Span {
        trace_id: record.parent.map_or_else(random::<16>, |parent| parent.trace.to_be_bytes().to_vec()),
        span_id: random::<8>(),
        parent_span_id: record.parent.map(|parent| parent.span.to_be_bytes().to_vec()).unwrap_or_default(),
        name,
        kind: kind.into(),
        start_time_unix_nano: end.saturating_sub(u64::try_from(record.took.as_nanos()).unwrap_or(u64::MAX)),
        end_time_unix_nano: end,
        attributes,
        status,
        ..Span::default()
    }
}

/// An id; all zeros, which collectors refuse, if the system gives no random numbers.
fn random<const N: usize>() -> Vec<u8> {
    let mut bytes = [0; N];
    let _ = getrandom::fill(&mut bytes);
    bytes.to_vec()
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
