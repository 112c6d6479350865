//! The documentation: an OpenAPI document, and Swagger UI to read it with. Both are part of the program and need no
//! network.

use crate::Api;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::request::Request;
use serde_json::{Value, json};
use std::sync::Arc;

/// The page names its files relative to itself, so that it works behind any prefix.
const PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>SKA data product index</title>
    <link rel="stylesheet" href="docs/swagger-ui.css">
    <link rel="icon" type="image/png" href="docs/favicon-32x32.png">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="docs/swagger-ui-bundle.js"></script>
    <script>
      SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", tryItOutEnabled: true });
    </script>
  </body>
</html>
"##;

/// The document, for this version and behind this prefix.
pub(crate) fn document(version: &str, root_path: &str) -> std::result::Result<Value, serde_json::Error> {
    let mut document: Value = serde_json::from_str(include_str!(concat!(env!("OUT_DIR"), "/openapi.json")))?;
    document["info"]["version"] = json!(version);
    document["servers"] = json!([{"url": if root_path.is_empty() { "/" } else { root_path }}]);
    Ok(document)
}

/// `GET /openapi.json`
pub(crate) async fn json(api: Arc<Api>, _: Request) -> Result<Response> {
    Ok(reply::json(&api.openapi))
}

/// `GET /`: what people want who come to the service as such. The prefix that the world sees need not be in the request.
pub(crate) async fn home(api: Arc<Api>, _: Request) -> Result<Response> {
    let location = match api.settings.root_path.as_str() {
        "" => "docs".to_owned(),
        root => format!("{root}/docs"),
    };
    reply::redirect(&location).ok_or(ApiError::Internal)
}

/// `GET /docs`
pub(crate) async fn page(_: Arc<Api>, _: Request) -> Result<Response> {
    Ok(reply::bytes("text/html; charset=utf-8", PAGE.into()))
}

/// `GET /docs/{file}`
pub(crate) async fn asset(_: Arc<Api>, request: Request) -> Result<Response> {
    let name = request.parameter.unwrap_or_default();
    match utoipa_swagger_ui::serve(&name, Arc::default()) {
        Ok(Some(file)) => Ok(reply::bytes(&file.content_type, file.bytes.into_owned())),
        _ => Err(ApiError::NotFound("There is no such file.".to_owned())),
    }
}
