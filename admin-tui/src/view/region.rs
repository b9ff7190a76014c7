//! Regions as a list, and round trips between them.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};

use super::{Hits, heat, table};
use crate::app::App;
use crate::list::List;
use crate::model::{Millis, regions};

pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer, now: Millis) -> Hits {
    let regions = regions(&app.model, now);
    let wanted = u16::try_from(regions.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [top, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(wanted.min(area.height / 2))])
            .spacing(1)
            .areas(area);
    heat::trips(app, &regions, bottom, buffer, now);
    table::rows(app, List::Regions, top, buffer, now)
}
