//! `hallmark config`.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::App;
use crate::console::table;
use crate::fault::Exit;

/// Shows every setting with its origin.
pub fn run(app: &App) -> Result<Exit> {
    let rows = app.config.rows();
    let file = app.config.file.as_ref().map(|path| path.display().to_string());
    app.show(
        || {
            let settings: Map<String, Value> = rows
                .iter()
                .map(|(key, value, origin)| {
                    ((*key).to_owned(), json!({ "value": value, "origin": origin.to_string() }))
                })
                .collect();
            json!({ "file": file, "settings": settings })
        },
        || {
            let cells = rows
                .iter()
                .map(|(key, value, origin)| vec![(*key).to_owned(), value.clone(), origin.to_string()]);
            let mut lines = table(&cells.collect::<Vec<_>>());
            if let Some(file) = &file {
                lines.push(format!("configuration file: {file}"));
            }
            lines
        },
    );
    Ok(Exit::Accepted)
}
