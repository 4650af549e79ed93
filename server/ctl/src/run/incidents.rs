//! Incidents and suspects.

use super::Session;
use crate::args::Incidents;
use crate::error::Error;
use crate::views;

pub(super) async fn run(session: &Session, verb: Incidents) -> Result<(), Error> {
    let client = session.client().await?;
    match verb {
        Incidents::List { all } => {
            let incidents = client.incidents(all).await?;
            session
                .ui
                .print(&incidents, || views::incidents::list(&incidents, all))
        }
        Incidents::Show { incident } => {
            let view = client.incident(incident).await?;
            session.ui.print(&view, || views::incidents::show(&view))
        }
    }
}

pub(super) async fn suspects(session: &Session, limit: u32) -> Result<(), Error> {
    let seen = session.client().await?.suspects(limit).await?;
    session
        .ui
        .print(&seen, || views::incidents::suspects_now(&seen))
}
