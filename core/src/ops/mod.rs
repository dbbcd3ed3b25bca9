//! Update operations (`stream::update`): their parsing and their meaning.
