use super::*;

fn items() -> Vec<(&'static str, &'static str, i64)> {
    vec![("b", "two", 2), ("a", "Three", 3), ("a", "one", 1)]
}

fn answered(query: &str) -> Result<Json, Error> {
    let render = |item: &(&str, &str, i64)| json!({"vhost": item.0, "name": item.1, "stats": {"rate": item.2, "count": 10}});
    let reply = paged(
        &Query::parse(query),
        items(),
        |item| (item.0, item.1),
        render,
    )?;
    Ok(serde_json::from_str(&reply.body.unwrap()).unwrap())
}

fn names(list: &Json) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

#[test]
fn without_a_page_the_answer_is_a_bare_list_and_name_filters_nothing() {
    assert_eq!(names(&answered("").unwrap()), ["Three", "one", "two"]);
    assert_eq!(
        names(&answered("name=two").unwrap()),
        ["Three", "one", "two"]
    );
}

#[test]
fn sorting_by_name_by_a_nested_value_and_backwards() {
    assert_eq!(
        names(&answered("sort=name").unwrap()),
        ["Three", "one", "two"]
    );
    assert_eq!(
        names(&answered("sort=stats.rate").unwrap()),
        ["one", "two", "Three"]
    );
    let backwards = answered("sort=stats.rate&sort_reverse=true").unwrap();
    assert_eq!(names(&backwards), ["Three", "two", "one"]);
    assert_eq!(
        names(&answered("sort=no.such").unwrap()),
        ["Three", "one", "two"]
    );
}

#[test]
fn a_page_says_where_it_is() {
    let page = answered("page=2&page_size=2&pagination=false").unwrap();
    assert_eq!(names(&page["items"]), ["two"]);
    for (key, value) in [
        ("filtered_count", 3),
        ("item_count", 1),
        ("page", 2),
        ("page_count", 2),
        ("page_size", 2),
        ("total_count", 3),
    ] {
        assert_eq!(page[key], value, "{key}");
    }
    assert_eq!(answered("page=1").unwrap()["page_size"], 100);
}

#[test]
fn a_page_is_of_the_names_that_match() {
    let page = answered("page=1&name=t").unwrap();
    assert_eq!(names(&page["items"]), ["Three", "two"]);
    assert_eq!(
        (&page["filtered_count"], &page["total_count"]),
        (&json!(2), &json!(3))
    );
    let page = answered("page=1&name=%5Et.o%24&use_regex=true").unwrap();
    assert_eq!(names(&page["items"]), ["two"]);
    assert_eq!(
        answered("page=1&name=(&use_regex=true").unwrap_err().kind,
        "bad_request"
    );
}

#[test]
fn a_name_pattern_cannot_take_long() {
    // Exponential for an engine that backtracks.
    let name = format!("{}!", "a".repeat(250));
    let query = Query::parse("page=1&use_regex=true&name=%28a*%29*b");
    let items = vec![name; 100];
    let reply = paged(
        &query,
        items,
        |name| ("", name),
        |name| json!({"name": name}),
    )
    .unwrap();
    assert!(reply.body.unwrap().contains("\"filtered_count\":0"));
    assert!(answered("page=1&use_regex=true&name=%28a%7B1000%7D%29%7B1000%7D").is_err());
}

#[test]
fn pages_that_are_not_there_are_refused() {
    let error = answered("page=9&page_size=100").unwrap_err();
    assert_eq!(
        error.to_json(),
        json!({
            "error": "page_out_of_range",
            "reason": "Page out of range, page: 9 page size: 100, len: 3",
        })
    );
    for query in ["page=0", "page=1&page_size=0", "page=1&page_size=501"] {
        assert_eq!(
            answered(query).unwrap_err().kind,
            "invalid_pagination_parameters",
            "{query}"
        );
    }
    assert_eq!(
        answered("page=x").unwrap_err().reason,
        "Pagination parameters are invalid"
    );
}

#[test]
fn columns_lead_into_objects() {
    let list = answered("columns=name,stats.rate&sort=name").unwrap();
    assert_eq!(list[0], json!({"name": "Three", "stats": {"rate": 3}}));
    let page = answered("columns=stats&page=1&page_size=1").unwrap();
    assert_eq!(page["items"], json!([{"stats": {"rate": 3, "count": 10}}]));
    assert_eq!(page["page_count"], 3);
}

#[test]
fn numbers_come_before_texts() {
    let mut items = vec![
        json!({"k": "a"}),
        json!({"k": 2}),
        json!({"k": true}),
        json!({}),
    ];
    let order = Order {
        by: Some("k".to_owned()),
        reverse: false,
    };
    order.sort(&mut items, &[]);
    assert_eq!(
        items,
        [
            json!({}),
            json!({"k": 2}),
            json!({"k": true}),
            json!({"k": "a"})
        ]
    );
}
