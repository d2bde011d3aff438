//! Statements over a list of rows: one text, and one trip to the database, however many rows.
//!
//! The rows are a `VALUES` list, which both databases read alike and whose columns are `column1`, `column2`, … in both. Lists are
//! filled up to one of [`SIZES`] with rows of NULLs, which the statement leaves out by `WHERE column1 IS NOT NULL`: so a handful of
//! texts serves every number of rows and stays prepared.

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock},
};

use sqlx::AssertSqlSafe;

use crate::dialect;

/// Rows of one statement at most.
pub(crate) const MOST: usize = 64;
/// Rows that a text can have: at most a third of them is filling, because that is bound and read too.
const SIZES: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, MOST];

type Texts = [OnceLock<Arc<str>>; SIZES.len()];

/// A statement with its list of rows left open.
pub(crate) struct Many {
    /// `{rows}` stands for the list, and each `?` for a parameter that comes after the rows.
    sql: &'static str,
    columns: usize,
    pg: Texts,
    lite: Texts,
}

impl Many {
    pub(crate) const fn new(sql: &'static str, columns: usize) -> Self {
        Self { sql, columns, pg: [const { OnceLock::new() }; SIZES.len()], lite: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// Place among [`SIZES`] of the text for `rows` rows.
    fn place(rows: usize) -> usize {
        SIZES.partition_point(|&size| size < rows).min(SIZES.len() - 1)
    }

    /// How many rows the text for `rows` rows has.
    pub(crate) fn size(rows: usize) -> usize {
        SIZES[Self::place(rows)]
    }

    pub(crate) fn pg(&self, rows: usize) -> AssertSqlSafe<Arc<str>> {
        self.text(&self.pg, rows, |size| {
            self.write(size, |text, number| {
                let _ = write!(text, "${number}");
            })
        })
    }

    pub(crate) fn lite(&self, rows: usize) -> AssertSqlSafe<Arc<str>> {
        // Without numbers: the driver looks each number up by its name.
        self.text(&self.lite, rows, |size| dialect::keeping_no_way_back(self.write(size, |text, _| text.push('?'))))
    }

    fn text(&self, texts: &Texts, rows: usize, write: impl FnOnce(usize) -> String) -> AssertSqlSafe<Arc<str>> {
        let place = Self::place(rows);
        let text = texts[place].get_or_init(|| write(SIZES[place]).into());
        AssertSqlSafe(Arc::clone(text))
    }

    fn write(&self, rows: usize, parameter: fn(&mut String, usize)) -> String {
        let mut text = String::with_capacity(self.sql.len() + rows * self.columns * 6);
        let mut number = 0;
        for (index, part) in self.sql.split("{rows}").enumerate() {
            if index > 0 {
                text.push_str("(VALUES ");
                for row in 0..rows {
                    text.push_str(if row == 0 { "(" } else { ", (" });
                    for column in 0..self.columns {
                        text.push_str(if column == 0 { "" } else { ", " });
                        number += 1;
                        parameter(&mut text, number);
                    }
                    text.push(')');
                }
                text.push_str(") AS v");
            }
            for (index, part) in part.split('?').enumerate() {
                if index > 0 {
                    number += 1;
                    parameter(&mut text, number);
                }
                text.push_str(part);
            }
        }
        text
    }
}

/// Binds the rows, the filling, and what comes after.
macro_rules! bound {
    ($query:expr, $rows:expr, |$row:ident| [$($bind:expr),*], [$($more:expr),*]) => {{
        let mut query = $query;
        let mut rows = $rows.iter();
        for _ in 0..$crate::many::Many::size($rows.len()) {
            let row = rows.next();
            $(query = query.bind(row.map(|$row| $bind));)*
        }
        $(query = query.bind($more);)*
        query
    }};
}
pub(crate) use bound;

/// Runs a [`Many`] over all rows and gives the number of rows that it touched.
macro_rules! exec_many {
    ($tx:expr, $statement:expr, $rows:expr, |$row:ident| [$($bind:expr),* $(,)?] $(, $more:expr)* $(,)?) => {{
        let mut touched = 0;
        for rows in $rows.chunks($crate::many::MOST) {
            $crate::db::counted();
            touched += match $crate::AsDb::as_db($tx) {
                $crate::Db::Pg(c) => {
                    $crate::many::bound!(sqlx::query($statement.pg(rows.len())), rows, |$row| [$($bind),*], [$($more),*])
                        .execute(&mut *c).await.map(|done| done.rows_affected())
                }
                $crate::Db::Lite(c) => {
                    $crate::many::bound!(sqlx::query($statement.lite(rows.len())), rows, |$row| [$($bind),*], [$($more),*])
                        .execute(&mut *c).await.map(|done| done.rows_affected())
                }
            }
            .map_err($crate::error::map)?;
        }
        touched
    }};
}
pub(crate) use exec_many;

/// Runs a [`Many`] over all rows and gives what it returns.
macro_rules! rows_many {
    ($tx:expr, $got:ty, $statement:expr, $rows:expr, |$row:ident| [$($bind:expr),* $(,)?] $(, $more:expr)* $(,)?) => {{
        let mut got: Vec<$got> = Vec::with_capacity($rows.len());
        for rows in $rows.chunks($crate::many::MOST) {
            $crate::db::counted();
            let mut more = match $crate::AsDb::as_db($tx) {
                $crate::Db::Pg(c) => {
                    $crate::many::bound!(sqlx::query_as(($statement).pg(rows.len())), rows, |$row| [$($bind),*], [$($more),*])
                        .fetch_all(&mut *c).await
                }
                $crate::Db::Lite(c) => {
                    $crate::many::bound!(sqlx::query_as(($statement).lite(rows.len())), rows, |$row| [$($bind),*], [$($more),*])
                        .fetch_all(&mut *c).await
                }
            }
            .map_err($crate::error::map)?;
            got.append(&mut more);
        }
        got
    }};
}
pub(crate) use rows_many;

#[cfg(test)]
mod tests {
    use super::*;

    static ADD: Many = Many::new("INSERT INTO t SELECT column1 FROM {rows} WHERE column1 < ?", 2);

    #[test]
    fn every_number_of_rows_has_room_with_little_filling() {
        for rows in 1..=MOST {
            let size = Many::size(rows);
            assert!(size >= rows && (size - rows) * 3 <= size, "{rows} in {size}");
        }
    }

    #[test]
    fn one_text_serves_many_sizes() {
        assert_eq!(&*ADD.pg(1).0, "INSERT INTO t SELECT column1 FROM (VALUES ($1, $2)) AS v WHERE column1 < $3");
        assert_eq!(&*ADD.lite(2).0, "INSERT OR FAIL INTO t SELECT column1 FROM (VALUES (?, ?), (?, ?)) AS v WHERE column1 < ?");
        assert!(Arc::ptr_eq(&ADD.pg(5).0, &ADD.pg(6).0));
        assert!(!Arc::ptr_eq(&ADD.pg(6).0, &ADD.pg(7).0));
        assert!(Arc::ptr_eq(&ADD.lite(49).0, &ADD.lite(MOST).0));
    }
}
